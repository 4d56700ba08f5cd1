# shellcheck shell=sh
# For run.sh, tokens.sh and tokens/*.sh, which source it.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: those of them that this Debian lacks.
install_packages() {
    missing=
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "== missing packages:$missing"
    # Where some list cannot be had, what is wanted may be in another.
    as_root apt-get update -qq || :
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $missing >/dev/null
}

# need PACKAGE...: the same for a token, whose tests are skipped where they cannot be installed.
need() {
    install_packages "$@" || {
        echo "cannot install$missing"
        exit 77
    }
}

# libclang: the package of bindgen's libclang, of any version, unless one is there.
libclang() {
    find /usr/lib /usr/lib64 -name 'libclang[.-]*so*' 2>/dev/null | grep -q . || echo libclang1
}

# install_all: all that the tests need but those of tokens with scripts of their own.
install_all() {
    install_packages aptly createrepo-c dbus-daemon debian-archive-keyring debootstrap debsig-verify debsigs devscripts dpkg-dev \
        e2fsprogs fakeroot flatpak g++ gcc git gnupg gpgv iproute2 libarchive-tools libc6-dev makepkg man-db opensc openssh-client \
        openssh-server ostree p11-kit pacman-package-manager pandoc python3 python3-yaml reprepro rpm shellcheck softhsm2 sqv strace \
        systemd
}

# skip WHAT REASON: it is told here, and once more by the script's last lines.
skipped=
skip() {
    echo "== $1: skipped, $2"
    skipped="$skipped== skipped: $1: $2
"
}
trap 'printf %s "$skipped"' EXIT

# static_build PROFILE: the static programs, by that profile of Cargo.
static_build() {
    status=0
    said=$(sh sshd/static.sh "$1") || status=$?
    echo "$said"
    last=$(echo "$said" | tail -n 1)
    case $status in
    0) export SIGSH_STATIC="$last" ;;
    77) skip "the tests of the static build" "$last" ;;
    *) exit $status ;;
    esac
}
