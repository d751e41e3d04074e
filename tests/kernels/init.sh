#!/bin/busybox sh
# The guest's first process, from the initial RAM file system: makes a machine of the kernel's modules,
# an empty disk and the host's files, which it cannot change, and goes on there with guest.sh.
set -e
say_why() { [ $? -eq 0 ] || echo "the guest could not be set up" >/dev/console; }
trap say_why EXIT
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko"; done </modules/order

# Cached by inode, as a disk is: Landlock's rules are about inodes (`cache=none` makes new ones each time).
share() { mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 "$1" "$2"; }
# layer NAME LOWER PLACE: the directory, with the disk for what is changed.
layer() {
  mkdir -p "/disk/$1" "/disk/$1-work" "$3"
  mount -t overlay -o "lowerdir=$2,upperdir=/disk/$1,workdir=/disk/$1-work" "$1" "$3"
}
share host /host
mount -t ext4 /dev/vda /disk
mkdir -p /disk/tmp /disk/var-tmp
chmod 1777 /disk/tmp /disk/var-tmp
layer root /host /root
if [ -d /added ]; then
  mkdir /project
  share project /project
  layer project /project /root/project
  cp -r /added/. /root/project
fi
mount -o bind /disk/tmp /root/tmp # not of the overlay: tests make overlays there
mount -o bind /disk/var-tmp /root/var/tmp
mount -t tmpfs -o mode=755 run /root/run
cp -r /tests /root/run/tests
for directory in proc sys dev; do mount -o move "/$directory" "/root/$directory"; done
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 pts /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t cgroup2 -o nsdelegate cgroup2 /root/sys/fs/cgroup
hostname guest
ip link set lo up
exec switch_root /root /bin/bash /run/tests/guest.sh
