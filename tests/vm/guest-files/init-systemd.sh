#!/usr/bin/busybox sh
# First process of a machine with a real systemd. The first root file system cannot be pivoted away from, and sandboxes
# do that: so everything moves to another.
/usr/bin/busybox mkdir /newroot
/usr/bin/busybox mount -t tmpfs -o mode=755,size=85% tmpfs /newroot
/usr/bin/busybox cp -a /usr/bin/busybox /newroot/busybox-first
for name in /*; do
    # switch_root wants to see the first /init, and removes it.
    [ "$name" = /newroot ] || [ "$name" = /init ] || /newroot/busybox-first mv "$name" /newroot/
done
exec /newroot/busybox-first switch_root /newroot /usr/sbin/init
