# One boot of a Pi, as the first process of its own: an overlay of this machine's files, some of
# /proc as a Pi has it, and init. It ends with init, and with it everything that it started.
set -e
mount --make-rprivate /
mount -t overlay -o "lowerdir=/,upperdir=$DISK/upper,workdir=$DISK/work" pi "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mount -t tmpfs tmpfs "$ROOT/tmp"
mkdir "$ROOT/run/sshd"
for file in cmdline swaps meminfo cgroups; do
  mount --bind "$ROOT/standin/proc/$file" "$ROOT/proc/$file"
done
mount --bind "$ROOT/standin/proc/boot_id" "$ROOT/proc/sys/kernel/random/boot_id"
hostname "$NAME"
exec chroot "$ROOT" /standin/bin/init
