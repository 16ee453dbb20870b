#!/bin/bash
# Boots a real systemd that has the units of docs/systemd, in namespaces of its own: processes, mounts, network,
# control groups. Nothing of the machine changes; its /usr and the kernel's settings are seen read-only, all else is new
# and in memory.
#
#     boot.sh FOLDER PROGRAMS CONFIG      as root; FOLDER is empty, PROGRAMS has nearmost, nearmost-broker, nearmost-agent
#
# FOLDER/pid is then the process id of that systemd, seen from here. To look around:
#
#     nsenter --target "$(cat FOLDER/pid)" --all --root --wd systemctl status nearmost-broker
#
# It ends with `systemctl exit` inside, with a SIGKILL of that process, or with a signal to this one (Ctrl-C), and with
# the status of that systemd. Nothing is left then.
set -euo pipefail

# Around: a control group for it, which goes when it has ended, however it does.
around() {
    local folder=$1 inside status=0
    mkdir "$folder/groups" "$folder/root"
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 "$folder/groups"
    group=$folder/groups/nearmost-try-$$
    mkdir "$group"
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo $$ >"$group/cgroup.procs"
    # Whoever kills this shell kills all of it. In the background, so that a signal is heard at once.
    setpriv --pdeathsig KILL unshare --pid --fork --kill-child --cgroup --uts --ipc --net --mount "$0" --inside "$@" &
    inside=$!
    wait "$inside" || status=$?
    exit "$status"
}

# Ends what is still in the control group, and removes it. Killed processes leave it a little later, and nothing tells
# a shell when.
leave() {
    local status=$? tries=0
    trap - EXIT INT TERM
    echo $$ >"${group%/*}/cgroup.procs"
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
        if [ $((tries += 1)) -gt 100 ]; then
            echo "$group cannot be removed" >&2
            exit 1
        fi
        find "$group" -name cgroup.procs -exec cat {} + | xargs -r kill -KILL 2>/dev/null || true
        sleep 0.05
    done
    exit "$status"
}

# What systemd finds.
furnish() {
    local root=$1 programs=$2 config=$3 docs entry
    docs=$(dirname "$0")/../../docs/systemd
    mount -t tmpfs -o mode=755 tmpfs "$root"
    mkdir -p "$root"/{etc/systemd/system,etc/sysusers.d,etc/tmpfiles.d,home,proc,root,run,sys,usr,var/lib,var/log,.outside}
    mkdir -m 1777 "$root"/{tmp,var/tmp}
    for entry in bin sbin lib lib32 lib64 libx32; do
        if [ -L "/$entry" ]; then cp -a "/$entry" "$root"; fi
    done
    mount --bind /usr "$root/usr"
    mount -o remount,bind,ro "$root/usr"
    mount -t tmpfs -o mode=755 tmpfs "$root/usr/local"
    mkdir "$root/usr/local/bin"
    for entry in nearmost nearmost-broker nearmost-agent; do
        touch "$root/usr/local/bin/$entry"
        mount --bind "$programs/$entry" "$root/usr/local/bin/$entry"
    done
    cp -a /etc/{passwd,group,shadow,ld.so.cache,nsswitch.conf} "$root/etc"
    # As installed: docs/running.md.
    install -m 0644 "$docs/nearmost.sysusers.conf" "$root/etc/sysusers.d/nearmost.conf"
    install -m 0644 "$docs/nearmost.tmpfiles.conf" "$root/etc/tmpfiles.d/nearmost.conf"
    install -m 0644 "$docs"/nearmost-{broker,agent}.service "$root/etc/systemd/system"
    # Not a first boot, which would enable everything; a network that is there already.
    echo 00000000000000000000000000000001 >"$root/etc/machine-id"
    ln -s /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
    printf '[Unit]\nWants=systemd-journald.service\nAfter=systemd-journald.service\n' >"$root/etc/systemd/system/try.target"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t proc proc "$root/proc"
    # The kernel's settings are those of the whole machine; only those of the network are not.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    for entry in systemd-{sysctl,modules-load,binfmt,random-seed,pstore}.service proc-sys-fs-binfmt_misc.{mount,automount}; do
        ln -s /dev/null "$root/etc/systemd/system/$entry"
    done
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    devices "$root/dev"
    # The documents' own words.
    chroot "$root" systemd-sysusers
    chroot "$root" systemd-tmpfiles --create /etc/tmpfiles.d/nearmost.conf
    install -m 0640 "$config" "$root/etc/nearmost/broker.toml"
    chroot "$root" chgrp nearmost /etc/nearmost/broker.toml
}

devices() {
    local dev=$1 entry
    mkdir "$dev"
    mount -t tmpfs -o mode=755 tmpfs "$dev"
    mkdir "$dev"/{pts,shm}
    for entry in null zero full random urandom tty; do
        touch "$dev/$entry"
        mount --bind "/dev/$entry" "$dev/$entry"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
    # PrivateDevices= needs a ptmx to be there.
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$dev/pts"
    ln -s pts/ptmx "$dev/ptmx"
    ln -s /proc/self/fd "$dev/fd"
}

inside() {
    local folder=$1 pid
    # This /proc is the outer one still, and so is the number that it tells.
    read -r pid _ </proc/self/stat
    mount --make-rprivate /
    ip link set lo up
    hostname nearmost-try
    furnish "$folder/root" "$2" "$3"
    echo "$pid" >"$folder/pid.new"
    mv "$folder/pid.new" "$folder/pid"
    cd "$folder/root"
    pivot_root . .outside
    umount -l /.outside
    rmdir /.outside
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin TERM=dumb container=nearmost \
        SYSTEMD_PROC_CMDLINE=systemd.unit=try.target \
        /lib/systemd/systemd --log-target=journal --show-status=no
}

case ${1:-} in
    --inside) shift; inside "$@" ;;
    --around) shift; around "$@" ;;
    *) exec unshare --mount "$(realpath "$0")" --around "$(realpath "$1")" "$(realpath "$2")" "$(realpath "$3")" ;;
esac
