#!/bin/sh
# Virtual smartcards behind a private pcscd, as OpenSC sees real ones. On a host of its own (tests/inside.sh), as root:
#
#   card.sh                             what the tests need: packages, and the program of tests/card. No other needs a network
#   card.sh start                       pcscd with two readers
#   card.sh insert READER KIND          0 or 1; openpgp or piv. The card is the one that was in this reader before, if there was one
#   card.sh remove READER
#   card.sh empty                       takes all cards out, and breaks them
#   card.sh key READER ALGORITHM        makes the signature key: ed25519, nistp256, rsa2048; on a PIV card nistp256
#   card.sh forced READER on|off        whether an OpenPGP card asks for its PIN before every signature
#   card.sh tries READER                how often an OpenPGP card's PIN may be wrong still
#   card.sh verify READER PIN           gives a PIN to the card; the card may refuse it
#   card.sh verified READER             how often a PIV card was given a PIN
#   card.sh unblock READER              gives a locked OpenPGP card its tries back
set -eu
here=$(cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}/card
state=/run/sigsh-cards
admin=00:20:00:83:08:31:32:33:34:35:36:37:38 # the factory's admin PIN, 12345678
select=00:A4:04:00:06:D2:76:00:01:24:01

# tell READER APDU...: each must be answered with 9000. Prints the data of the answers.
tell() {
    reader=$1
    shift
    for apdu in "$@"; do set -- "$@" -s "$apdu"; shift; done
    opensc-tool -r "$reader" "$@" >$state/answer
    if grep 'SW1=' $state/answer | grep -v 'SW1=0x90, SW2=0x00' >&2; then exit 1; fi
    grep '^[0-9A-F][0-9A-F] ' $state/answer | cut -c1-48 | tr -d ' \n'
}

# until_card READER yes|no
until_card() {
    tries=200
    until [ "$(opensc-tool -l | awk -v reader="$1" '$1 == reader { print tolower($2) }')" = "$2" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "card.sh: reader $1 does not notice its card" >&2; exit 1; }
        sleep 0.05
    done
}

piv_key() {
    cd $state
    # The factory's management key.
    echo 01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08 >management
    export PIV_EXT_AUTH_KEY=$state/management
    # piv-tool 0.23 makes the key and fails to write its public half.
    piv-tool -r "$1" -A M:9B:03 -s 00:47:00:9C:05:AC:03:80:01:11:00 >generated
    point=$(sed 1,/Received/d generated | cut -c1-48 | tr -d ' \n' | cut -c11-)
    printf %s "3059301306072a8648ce3d020106082a8648ce3d030107034200$point" | xxd -r -p >public.der
    # A PIV key is found by its certificate, whoever has issued that.
    openssl ecparam -name prime256v1 -genkey -noout -out issuer.key
    openssl req -x509 -new -key issuer.key -subj /CN=issuer -out issuer.pem
    openssl req -new -key issuer.key -subj /CN=release -out request
    openssl pkey -pubin -inform DER -in public.der -out public.pem
    openssl x509 -req -in request -CA issuer.pem -CAkey issuer.key -CAcreateserial -force_pubkey public.pem -out 9c.pem 2>/dev/null
    # It leaves with a code of its own when all is well.
    piv-tool -r "$1" -A M:9B:03 -C 9C -i 9c.pem || :
}

case ${1-} in
'')
    # shellcheck source=tests/common.sh
    . "$here/common.sh"
    # shellcheck disable=SC2046 # one word or none
    need gcc libc6-dev libpcsclite1 opensc openssl pcscd polkitd python3 vsmartcard-vpcd xxd $(libclang)
    # bindgen (of littlefs2-sys) finds libclang1, but not the headers of a clang that is not installed.
    BINDGEN_EXTRA_CLANG_ARGS=-I$(gcc -print-file-name=include)
    export BINDGEN_EXTRA_CLANG_ARGS
    CARGO_TARGET_DIR=$target cargo build --quiet --locked --manifest-path "$here/card/Cargo.toml"
    ;;
start)
    mkdir -p $state /run/pcscd
    # vpcd sends a length and what it counts apart. To the first the kernel answers after 40 ms, and so every command would take.
    for range in 127.0.0.0/8 127.0.0.1; do
        ip route replace local $range dev lo table local proto kernel scope host src 127.0.0.1 quickack 1
    done
    setsid pcscd --foreground --info --apdu </dev/null >$state/pcscd.log 2>&1 &
    until_card 1 no
    ;;
insert)
    port=$((35963 + $2))
    setsid "$target/debug/card" "$3" $port "$state/$3.$2" </dev/null >$state/card.log 2>&1 &
    echo $! >"$state/pid.$2"
    until_card "$2" yes
    ;;
remove)
    kill "$(cat "$state/pid.$2")"
    until_card "$2" no
    ;;
empty)
    for pid in "$state"/pid.*; do
        [ ! -f "$pid" ] || kill "$(cat "$pid")" 2>/dev/null || :
    done
    rm -f $state/pid.* $state/openpgp.* $state/piv.*
    until_card 0 no
    until_card 1 no
    ;;
key)
    if [ -f "$state/piv.$2" ]; then
        piv_key "$2"
        exit
    fi
    case $3 in
    ed25519) attributes=0A:16:2B:06:01:04:01:DA:47:0F:01 ;;
    nistp256) attributes=09:13:2A:86:48:CE:3D:03:01:07 ;;
    rsa2048) attributes=06:01:08:00:00:20:00 ;;
    esac
    # The key's kind, the key, and a fingerprint: OpenSC shows no key without one.
    tell "$2" $select $admin "00:DA:00:C1:$attributes" 00:47:80:00:02:B6:00:00 \
        00:DA:00:C7:14:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14 >/dev/null
    ;;
forced)
    if [ "$3" = on ]; then multiple=00; else multiple=01; fi
    tell "$2" $select $admin 00:DA:00:C4:01:$multiple >/dev/null
    ;;
verify)
    verify=00:20:00:81:$(printf %02X ${#3})
    pin=$(printf %s "$3" | xxd -p | fold -w 2 | tr '\n' : | sed 's/:$//')
    if [ -f "$state/piv.$2" ]; then
        select=00:A4:04:00:05:A0:00:00:03:08 verify=00:20:00:80:08
        # Filled up to eight bytes.
        while [ ${#pin} -lt 23 ]; do pin=$pin:FF; done
    fi
    opensc-tool -r "$2" -s $select -s "$verify:$pin" >/dev/null
    ;;
verified)
    grep -c 'APDU: 00 20 00 80 08' $state/pcscd.log || :
    ;;
unblock)
    # RESET RETRY COUNTER by the admin PIN, with the factory's PIN as the new one.
    tell "$2" $select $admin 00:2C:02:81:06:31:32:33:34:35:36 >/dev/null
    ;;
tries)
    # PW status bytes, the fifth.
    tell "$2" $select 00:CA:00:C4:00 | cut -c9-10
    ;;
esac
