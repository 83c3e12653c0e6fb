#!/bin/busybox sh
# The first program in the virtual machine: it puts the file systems together, goes over to them,
# and hands on to /var/tmp/start. Whatever fails ends the machine; its console says where.

/bin/busybox --install -s /bin
fail() { echo "init: $1 failed"; poweroff -f; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    [ -e "$module" ] || continue # a kernel may have all of it built in
    insmod "$module" || fail "$module"
done

mkdir /new
if [ "$(uname -m)" = x86_64 ]; then
    # the files of the machine we are on, read-only; what is written goes to the disk
    mount -t virtiofs -o ro host /new || fail "the host's root"
    mount -t ext4 /dev/vda /new/var/tmp || fail "the disk"
else
    # another architecture: everything is on the disk
    mount -t ext4 /dev/vda /new || fail "the disk"
fi

for directory in proc sys dev; do
    mount --move /$directory /new/$directory
done
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t tmpfs -o mode=755 run /new/run
mount -t cgroup2 cgroup /new/sys/fs/cgroup # the machine outside may have version 1
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/1 /new/dev/stdout
ip link set lo up
for name in test-log test-result; do # the ports to the outside, which come up by and by
    until port=$(grep -lx $name /new/sys/class/virtio-ports/*/name); do sleep 0.1; done
    port=${port%/name}
    ln -s "${port##*/}" /new/dev/$name
done
exec switch_root /new /bin/sh /var/tmp/start
