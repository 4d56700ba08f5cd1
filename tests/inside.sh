#!/bin/sh
# sh tests/inside.sh COMMAND [ARGUMENT...]
#
# Runs COMMAND as root on a throw-away copy of this machine: an overlay in memory covers every file
# system, and /run, the processes, the loopback and a real journald are its own. So a test may create
# accounts, install to /usr/bin and flood the journal, and nothing of it is left. Only /tmp, the
# checkout and cargo's target directory stay the machine's. Exits as COMMAND does, and with 125 when
# there was no way to run it.
set -eu

fail() {
    echo "inside.sh: $*" >&2
    exit 125
}

if [ "${1-}" != --in-namespace ]; then
    [ $# -gt 0 ] || fail "usage: inside.sh COMMAND [ARGUMENT...]"
    here=$(cd -- "$(dirname -- "$0")" && pwd)
    # -E for cargo's and rustup's variables; sudo sets PATH and HOME of its own even so.
    [ "$(id -u)" = 0 ] || exec sudo -E env "PATH=$PATH" "HOME=$HOME" sh "$here/inside.sh" "$@"
    PATH=$PATH:/usr/sbin:/sbin # sshd, useradd: not in the PATH of a Debian user
    export PATH
    for tool in unshare ip /lib/systemd/systemd-journald; do
        command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install util-linux iproute2 systemd"
    done
    unshare --mount --pid --net --fork true 2>/dev/null ||
        fail "no right to make namespaces, so nothing was run: a container needs --privileged"
    exec unshare --mount --pid --net --fork --kill-child --propagation private \
        sh "$here/inside.sh" --in-namespace "${here%/*}" "$@"
fi

checkout=$2
work=$PWD
shift 2
umask 022

# What the machine has mounted, read before our own mounts join the list.
mounts=$(findmnt -rno TARGET,FSTYPE)
new=/run/new
mount -t tmpfs -o mode=0755 tmpfs /run

# overlay DIRECTORY: shows it in the new tree; what is written there goes to memory.
layers=0
overlay() {
    layers=$((layers + 1))
    layer=/run/layer$layers
    mkdir -p "$layer/upper" "$layer/work" "$new$1"
    chown --reference="$1" "$layer/upper"
    chmod --reference="$1" "$layer/upper"
    mount -t overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" overlay "$new$1" 2>/dev/null
}

overlay / || fail "the kernel makes no overlay over / here (inside another overlay?), so nothing was run"
echo "$mounts" | while read -r mounted type; do
    case $mounted in
    / | /proc/* | /run/* | /dev/* | /sys/* | /tmp/*) continue ;; # come with their parents
    /proc | /run | /dev | /sys | /tmp) continue ;;               # have their own lines below
    esac
    # A file (Docker's /etc/hosts), or a file system that no overlay can cover, is shown as it is.
    if [ "$type" = autofs ]; then
        continue
    elif [ -f "$mounted" ]; then
        mount --bind "$mounted" "$new$mounted"
    elif [ -d "$mounted" ]; then
        overlay "$mounted" || mount --rbind "$mounted" "$new$mounted"
    fi
done
for real in /dev /sys /tmp "$checkout" "${CARGO_TARGET_DIR-}"; do
    [ -d "$real" ] || continue
    mkdir -p "$new$real"
    mount --rbind "$real" "$new$real"
done
mount -t proc proc "$new/proc"

cd $new
pivot_root . run
umount -l /run
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal /run/lock /run/sshd
# sigsh-client shares connections through it: not with another copy of this machine, whose host is another.
[ -d /tmp/sigsh-0 ] || mkdir -m 0700 /tmp/sigsh-0
mount -t tmpfs -o mode=0700 tmpfs /tmp/sigsh-0
ip link set lo up

# Kept in memory, without the rate limit that would drop a test's flood. Audit= leaves the kernel's
# auditing as it is, and ReadKMsg=no leaves the machine's own messages out.
mkdir -p /etc/systemd/journald.conf.d
cat >/etc/systemd/journald.conf.d/zz-inside.conf <<END
[Journal]
Storage=volatile
RateLimitIntervalSec=0
RateLimitBurst=0
ReadKMsg=no
Audit=
END
# How many records wait for journald: what systemd sets at boot, where it is the machine's first process.
echo 512 2>/dev/null >/proc/sys/net/unix/max_dgram_qlen || :
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
# journalctl would show the machine's old records among the new ones.
[ ! -d /var/log/journal ] || mount -t tmpfs -o mode=0755 tmpfs /var/log/journal
/lib/systemd/systemd-journald </dev/null >/dev/null 2>&1 &
tries=250
until [ -S /run/systemd/journal/socket ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "systemd-journald did not start within five seconds"
    sleep 0.02
done

cd "$work"
status=0
"$@" || status=$?
exit $status # and with this first process of the namespace everything in it goes
