#!/bin/sh
# What the tests of TPMs need: a TPM of software and the tools that set keys up. The device is tests/tokens/tpmrm.rs.
set -eu
cd -- "$(dirname -- "$0")/../.."
. tests/common.sh

need libtpm2-pkcs11-1 libtpm2-pkcs11-tools swtpm tpm2-tools
[ -c /dev/fuse ] || {
    echo "there is no /dev/fuse to make a device with"
    exit 77
}
