#!/bin/sh
# What the tests of TPMs need: a TPM of software and the tools that set keys up. The device is tests/tokens/tpmrm.rs.
set -eu

packages="libtpm2-pkcs11-1 libtpm2-pkcs11-tools swtpm tpm2-tools"
# shellcheck disable=SC2086 # a list of words
if ! dpkg-query -W $packages >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $packages >/dev/null || {
        echo "cannot install $packages"
        exit 77
    }
fi
[ -c /dev/fuse ] || {
    echo "there is no /dev/fuse to make a device with"
    exit 77
}
