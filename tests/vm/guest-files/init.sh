#!/bin/busybox sh
# The guest's first process: makes a small Linux, runs the steps of /vm/plan, and powers off.

if [ "$1" != switched ]; then
    # The first root file system cannot be pivoted away from, and tests do that: so everything moves to another.
    /bin/busybox mount -t tmpfs -o mode=755,size=85% tmpfs /newroot
    /bin/busybox cp -a /init /newroot/
    /bin/busybox cp -a /bin/busybox /newroot/busybox-first
    for name in /*; do
        # switch_root wants to see the first /init, and removes it.
        [ "$name" = /newroot ] || [ "$name" = /init ] || /newroot/busybox-first mv "$name" /newroot/
    done
    /newroot/busybox-first rm /newroot/busybox-first
    exec /newroot/bin/busybox switch_root /newroot /init switched
fi

export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root TERM=linux LANG=C.UTF-8 OBSERVER_BIN=/vm/observer
/bin/busybox --install -s /busybox
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount --make-rshared /
ln -s /proc/self/fd /dev/fd
ip link set lo up

# The command line of the kernel names the serial line for results.
/bin/busybox sh /vm/plan.sh "$results"
sync
poweroff -f
