# shellcheck shell=bash
# The common layer: what all nodes of one cluster share above the root file system. It lies below the nodes' own
# overlay layers and must not change while a node runs.

# make_common_layer ROOTFS
make_common_layer() {
  local rootfs=$1 common=$STATE/common
  mkdir -p "$common"/{etc/{munge,slurm,ssh,stint},root/.ssh,usr/local/{bin,libexec/stint-cluster}}
  make_slurm_conf "$common"
  make_hosts "$common"
  make_openmpi_conf "$rootfs" "$common"
  make_keys "$common"

  dd if=/dev/urandom of="$common/etc/munge/munge.key" bs=1024 count=1 status=none
  chown -R --reference="$rootfs/etc/munge" "$common/etc/munge"
  chmod 0700 "$common/etc/munge"
  chmod 0400 "$common/etc/munge/munge.key"

  cp "$HERE/etc/stint.toml" "$common/etc/stint/"
  printf '[store]\nkey_file = "%s"\n' "$common/etc/stint/store.key" >"$STATE/key.toml"
  "$HERE/../../node_modules/.bin/node" "$HERE/../../daemon/cli/main.ts" key init --config "$STATE/key.toml" >/dev/null
  cp "$HERE"/node/* "$common/usr/local/libexec/stint-cluster/"
  ln -s /opt/stint/daemon/bin/{stint,stintd} "$common/usr/local/bin/"
}

make_slurm_conf() {
  local workers
  workers="n[1-$(node_names | grep -c '^n')]"
  sed "s/@NODES@/$workers/" "$HERE/slurm/slurm.conf" >"$1/etc/slurm/slurm.conf"
  cp "$HERE/slurm/cgroup.conf" "$1/etc/slurm/"
  # An entry whose plugin does not exist would put an error on every command's stderr.
  ! has_plugin || cp "$HERE/slurm/plugstack.conf" "$1/etc/slurm/"
}

make_hosts() {
  local node
  {
    echo 127.0.0.1 localhost
    for node in $(node_names); do echo "$(node_address "$node") $node"; done
  } >"$1/etc/hosts"
}

# Open MPI refuses to bind more ranks than the machine has CPUs, and nodes offer more than that.
make_openmpi_conf() {
  mkdir -p "$2/etc/openmpi"
  { cat "$1/etc/openmpi/prte-mca-params.conf"; echo 'hwloc_default_binding_policy = none'; } >"$2/etc/openmpi/prte-mca-params.conf"
}

# Every node has its own host key, known to all; root may go from any node to any other.
make_keys() {
  local node keys
  ssh-keygen -q -t ed25519 -N '' -C "root@$CLUSTER" -f "$1/root/.ssh/id_ed25519"
  cp "$1/root/.ssh/id_ed25519.pub" "$1/root/.ssh/authorized_keys"
  chmod 0700 "$1/root/.ssh"
  for node in $(node_names); do
    keys=$STATE/hostkeys/$node
    mkdir -p "$keys"
    ssh-keygen -q -t ed25519 -N '' -C "$node" -f "$keys/ssh_host_ed25519_key"
    echo "$node,$(node_address "$node") $(<"$keys/ssh_host_ed25519_key.pub")"
  done >"$1/etc/ssh/ssh_known_hosts"
}

# The shared file system: on the machine's disk, where fsync, sizes and full disks are real.
make_shared() {
  local user
  mkdir -p "$STATE/shared/home"
  install -d -m 0700 "$STATE/shared/stint"
  for user in alice:1001 bob:1002; do
    cp -rT "$1/etc/skel" "$STATE/shared/home/${user%:*}"
    chown -R "${user#*:}:${user#*:}" "$STATE/shared/home/${user%:*}"
    chmod 0700 "$STATE/shared/home/${user%:*}"
  done
}
