# shellcheck shell=bash
# The machine itself: qemu with software emulation, reached by SSH over a forwarded port of the loopback.

MEMORY=3072

machine_pid() {
  local pid
  { read -r pid <"$STATE/qemu.pid"; } 2>/dev/null || return 1
  # A number that now belongs to something else is not ours.
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "-name stint-vm-$CLUSTER -daemonize " || return 1
  echo "$pid"
}

machine_is_up() {
  machine_pid >/dev/null
}

free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 10000))
    [[ -n $(ss -Htln "sport = :$port") ]] || { echo "$port"; return; }
  done
  die "no free port on the loopback"
}

# machine_start ROOTFS: the system's disk is read only for all; what this machine writes ends with it. The emulator is that of the
# root file system: QEMU 7.2 (Debian 12) runs instructions of the kernel that another CPU has just replaced, and the kernel panics with
# an int3 in __schedule; CRIU's breakpoints make it replace some.
machine_start() (
  close_descriptors # The lock is ours alone.
  in_rootfs "$1" "$STATE=/mnt" "$(dirname "$(image_path "$1")")=/srv" /dev=/dev /proc=/proc -- env -i PATH="$PATH" TMPDIR=/mnt \
    qemu-system-x86_64 -name "stint-vm-$CLUSTER" -daemonize -pidfile /mnt/qemu.pid -accel tcg,thread=multi -machine q35 -cpu max,-pku,-la57 -smp 2 -m "$MEMORY" \
    -display none -serial file:/mnt/console.log -monitor none -device virtio-rng-pci \
    -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off audit=0 panic=1' \
    -drive "file=/srv/$(basename "$(image_path "$1")"),format=raw,if=virtio,snapshot=on,cache=unsafe" \
    -drive "file=/mnt/payload.raw,format=raw,if=virtio,cache=unsafe" \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$(<"$STATE/port")-:22" -device virtio-net-pci,netdev=net \
    -kernel /vmlinuz -initrd /initrd.img
)

# in_rootfs ROOTFS [FROM=TO]... -- COMMAND...: in the tree, read only, with these directories mounted in it for the command alone.
in_rootfs() {
  # shellcheck disable=SC2016 # the arguments are those of the inner shell
  unshare --mount sh -euc '
    root=$1
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    while shift; [ "$1" != -- ]; do mount --rbind "${1%=*}" "$root${1#*=}"; done
    shift
    exec chroot "$root" "$@"
  ' sh "$@"
}

machine_stop() {
  local pid
  ! pid=$(machine_pid) || { kill -KILL "$pid" && wait_until 10 machine_is_down; }
}

machine_is_down() {
  ! machine_is_up
}

# in_machine COMMAND...: as root, with the standard streams of the caller. One connection serves all.
in_machine() (
  close_descriptors
  ssh -q -F none -i "$STATE/id" -p "$(<"$STATE/port")" -o UserKnownHostsFile="$STATE/known_hosts" -o StrictHostKeyChecking=yes -o BatchMode=yes \
    -o ConnectTimeout=30 -o ServerAliveInterval=20 -o ServerAliveCountMax=6 \
    -o ControlMaster=auto -o ControlPath="$STATE/ssh.sock" -o ControlPersist=600 root@127.0.0.1 "${*@Q}"
)

# enter_machine USER COMMAND...: with the environment and directory of a fresh login, as `cluster exec` does it.
enter_machine() {
  local user=$1
  shift
  # The single quotes are meant: HOME is that of the user in the machine.
  # shellcheck disable=SC2016
  in_machine setpriv --reuid "$user" --regid "$user" --init-groups --reset-env -- \
    sh -c 'cd && unset OLDPWD && case $USER in root) PATH='"$NODE_PATH"'; export NODE_COMPILE_CACHE=/var/cache/stint;; *) PATH=/usr/local/bin:/usr/bin:/bin;; esac && export PATH LANG=C.UTF-8 && exec "$@"' sh "$@"
}

forget_connection() {
  ssh -q -F none -o ControlPath="$STATE/ssh.sock" -O exit root@127.0.0.1 2>/dev/null || true
  rm -f "$STATE/ssh.sock"
}
