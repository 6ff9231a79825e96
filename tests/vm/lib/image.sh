# shellcheck shell=bash
# The disks: the system, made once for each state of its inputs, and what changes with every `up`.

SYSTEM_BYTES=4G
PAYLOAD_BYTES=1G

# image_path ROOTFS
image_path() {
  local hash
  hash=$({ echo "$1"; cat "$HERE/lib/image.sh"; find "$HERE/guest" -type f | sort | xargs tail -n +1; } | sha256sum)
  echo "$CACHE/vm-${hash:0:12}.raw"
}

# ensure_image ROOTFS
ensure_image() {
  local path lock
  path=$(image_path "$1")
  exec {lock}>"$CACHE/vm.lock"
  flock "$lock"
  [[ -e $path ]] || {
    say "making the disk of the system (once)"
    rm -f "$CACHE"/vm-*.raw.new
    make_image "$1" "$path.new" >"$STATE/image.log" 2>&1 || { tail -n 20 "$STATE/image.log" >&2; die "the disk could not be made" "read $STATE/image.log"; }
    mv "$path.new" "$path"
    say "disk made: $path"
  }
  exec {lock}>&-
}

# make_image ROOTFS FILE: our files lie over the tree by an overlay in a mount namespace of its own; mke2fs reads it, nothing is
# mounted for writing.
make_image() {
  local rootfs=$1 file=$2 over=$STATE/over
  rm -rf "$over"
  mkdir -p "$over"/{upper,work,merged}
  cp -r --no-preserve=ownership "$HERE/guest/." "$over/upper/"
  place_guest "$over/upper"
  # shellcheck disable=SC2016 # the arguments are those of the inner shell
  unshare --mount sh -euc '
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/merged"
    chroot "$2/merged" chown -R slurm: /var/log/slurm /var/spool/slurmctld
    chroot "$2/merged" chown 1001:1001 /shared/home/alice
    chroot "$2/merged" chown 1002:1002 /shared/home/bob
    # Newer than /usr: the first boot has no caches of the system to bring up to date.
    touch "$2/merged/etc/.updated" "$2/merged/var/.updated"
    mke2fs -q -t ext4 -L system -E lazy_itable_init=1,lazy_journal_init=1 -d "$2/merged" "$3" "$4"
  ' sh "$rootfs" "$over" "$file" "$SYSTEM_BYTES"
  rm -rf --one-file-system "$over"
}

# place_guest DIR: what guest/ does not say by itself: the product's own unit, links into the second disk, the shared directory, and
# units that only cost time in a boot.
place_guest() {
  local root=$1 unit wants=$1/etc/systemd/system/multi-user.target.wants slurm=/usr/lib/x86_64-linux-gnu/slurm-wlm
  mkdir -p "$root"/{usr/libexec,usr/local/bin,opt/vm,opt/stint,var/cache/stint,var/log/slurm,var/spool/slurmctld,"$slurm"} "$wants"
  install -d -m 0700 "$root/shared/stint"
  install -d -m 0755 "$root/shared/home"
  install -d -m 0700 "$root"/shared/home/{alice,bob}
  cp "$CHECKOUT/slurm-scripts/snippets/stintd.service" "$root/etc/systemd/system/"
  for unit in stintd.service slurmd@n1.service slurmd@n2.service; do
    ln -s "/etc/systemd/system/${unit/@n?/@}" "$wants/$unit"
  done
  for unit in systemd-logind.service systemd-pstore.service sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  ln -s "/opt/vm/plugin$slurm/spank_stint.so" "$root$slurm/spank_stint.so"
  ln -s /opt/vm/plugin/usr/libexec/stint "$root/usr/libexec/stint"
  ln -s /opt/stint/daemon/bin/{stint,stintd} "$root/usr/local/bin/"
}

# make_payload ROOTFS: the second disk: checkout, plugin, keys, compiled modules.
make_payload() {
  local dir=$STATE/payload
  mkdir -p "$dir"/{secrets,checkout,cache}
  copy_checkout . | tar -C "$dir/checkout" -x
  compile_modules "$1" "$dir/checkout" "$dir/cache"
  cp -a "$STATE/plugin/stage" "$dir/plugin"
  ssh-keygen -q -t ed25519 -N '' -C vm -f "$STATE/id"
  ssh-keygen -q -t ed25519 -N '' -C vm -f "$dir/secrets/host_key"
  cp "$STATE/id.pub" "$dir/secrets/authorized_keys"
  echo "[127.0.0.1]:$(<"$STATE/port") $(<"$dir/secrets/host_key.pub")" >"$STATE/known_hosts"
  dd if=/dev/urandom of="$dir/secrets/munge.key" bs=1024 count=1 status=none
  chmod 0400 "$dir/secrets/munge.key"
  chown --reference="$1/etc/munge" "$dir/secrets/munge.key"
  chown root:root "$dir" "$dir/secrets"
  mke2fs -q -t ext4 -L stint -E lazy_itable_init=1,lazy_journal_init=1 -d "$dir" "$STATE/payload.raw" "$PAYLOAD_BYTES"
  rm -rf "$dir"
}

# compile_modules ROOTFS CHECKOUT CACHE: what Node.js would compile at the first start of daemon and command line, which takes the
# emulated machine two minutes. Node.js compares it with the sources and its own version.
compile_modules() {
  local program
  for program in stintd stint; do
    in_rootfs "$1" "$2=/opt/stint" "$3=/mnt" /dev=/dev -- env -i PATH="$NODE_PATH" NODE_COMPILE_CACHE=/mnt "/opt/stint/daemon/bin/$program" --help >/dev/null
  done
}

# The checkout as the machine gets it: what runs there, without what only builds and tests.
copy_checkout() {
  tar -C "$CHECKOUT" -c --owner=0 --group=0 --exclude=.git --exclude=node_modules/{typescript,@types,@typescript-eslint,@babel,@swc,jest,'jest-*',eslint,'eslint-*',@sinclair} \
    "$@"
}
