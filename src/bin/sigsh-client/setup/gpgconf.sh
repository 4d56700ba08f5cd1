#!/bin/sh
# Written by 'sigsh-client setup gpg', for users of gpgme: the real gpgconf answers, but gpg is the one beside this file.
gpg=@GPG@

# Whether a file is like this one. It may be called where there is no other program than sh.
is_ours() {
    second=
    { read -r second; read -r second; } <"$1" || :
    case $second in
    "# Written by 'sigsh-client setup"*) return 0 ;;
    esac
    return 1
}

set -f
IFS=:
real=
for directory in $PATH; do
    if [ -x "$directory/gpgconf" ] && ! is_ours "$directory/gpgconf"; then
        real=$directory/gpgconf
        break
    fi
done
unset IFS

case " $* " in
*' --list-components '* | *' --check-programs '*)
    code=0
    components=gpg:OpenPGP:
    [ -z "$real" ] || components=$("$real" "$@") || code=$?
    printf '%s\n' "$components" | while IFS=: read -r name title program rest; do
        [ "$name" != gpg ] || program=$gpg
        printf '%s\n' "$name:$title:$program${rest:+:$rest}"
    done
    exit $code
    ;;
*)
    [ -n "$real" ] || {
        echo "gpgconf: there is no GnuPG on this machine, only sigsh-client" >&2
        exit 2
    }
    exec "$real" "$@"
    ;;
esac
