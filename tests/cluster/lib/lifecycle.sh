# shellcheck shell=bash
# up, down, crash, boot, reload: the verbs that change a cluster.

# cluster_up NODES SUITE
cluster_up() {
  local nodes=$1 suite=$2 rootfs node
  take_lock
  ! any_node_is_up || die "cluster '$CLUSTER' is already up" \
    "use it ('cluster status'), or 'cluster down' first, or set STINT_CLUSTER=name for another one"
  # A half started cluster is of use to nobody who wanted none; one that failed to start is, for a look.
  trap 'say "interrupted: removing what there is of the cluster"; sweep; exit 130' INT TERM
  install_host_packages
  check_host
  sweep
  ensure_rootfs "$suite"
  rootfs=$(rootfs_path "$suite")

  mkdir -p "$STATE/nodes"
  echo "$rootfs" >"$STATE/rootfs"
  { echo ctl; seq -f 'n%.0f' 1 "$nodes"; } >"$STATE/nodes.list"
  make_common_layer "$rootfs"
  make_shared "$rootfs"
  build_plugin "$rootfs"
  switch_make
  say "files and network ready"

  boot_nodes
  say "nodes started: $(node_names | xargs)"
  wait_until 30 slurm_is_idle "$nodes" || {
    in_node ctl sinfo >&2 || true
    die "Slurm did not become ready" "see $STATE/nodes/*/console.log and /var/log/slurm in the nodes; 'cluster down' removes all"
  }
  say "Slurm ready"
  wait_for_daemons
  say "cluster '$CLUSTER' is up; next: cluster exec n1 -- sinfo"
}

boot_nodes() {
  local node pids=() pid
  for node in $(node_names); do
    boot_node "$node" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

slurm_is_idle() {
  [[ $(in_node ctl sinfo --noheader --responding --states=idle --Node --partition=batch 2>/dev/null | wc -l) == "$1" ]]
}

# A daemon that does not start is no reason to refuse the cluster to the developer who wants to find out why.
wait_for_daemons() {
  local node
  [[ -x $CHECKOUT/daemon/bin/stintd ]] || { say "no daemon/bin/stintd yet: nodes run without it"; return 0; }
  for node in $(node_names); do
    wait_until 30 in_node "$node" "$SERVICE" status >/dev/null ||
      say "warning: stintd does not listen on $node; see 'cluster daemon $node log'"
  done
}

cluster_down() {
  take_lock
  sweep
  rm -f "$CACHE/$CLUSTER.lock"
}

# Removes every trace of the cluster, whatever state it is in: also after a reboot, or with its state lost in part.
sweep() {
  local node held
  for node in $(node_names); do crash_node "$node"; done
  node_is_gone '*' || wait_until 20 node_is_gone '*' || die "cgroups $CGROUP.* cannot be removed" "look for their processes"
  for held in "$STATE"/switch.net "$STATE"/nodes/*/net; do release_namespace "$held"; done
  rm -rf --one-file-system "$STATE"
  rmdir --ignore-fail-on-non-empty "${STATE%/*}" 2>/dev/null || true
}

cluster_crash() {
  take_lock
  node_is_up "$1" || die "node $1 is down already" "start it with 'cluster boot $1'"
  crash_node "$1"
}

cluster_boot() {
  take_lock
  ! node_is_up "$1" || die "node $1 is up" "stop it with 'cluster crash $1'"
  crash_node "$1"
  boot_node "$1"
}

cluster_reload() {
  local node
  take_lock
  any_node_is_up || die "cluster '$CLUSTER' is down" "start it with 'cluster up'"
  build_plugin "$(<"$STATE/rootfs")"
  for node in $(node_names); do
    node_is_up "$node" || continue
    install_plugin "$node"
    ! has_plugin || in_node "$node" sh -c 'cat >/etc/slurm/plugstack.conf' <"$HERE/slurm/plugstack.conf"
    in_node "$node" cp "/opt/stint/tests/cluster/node/stintd-service" "$SERVICE"
    [[ ! -x $CHECKOUT/daemon/bin/stintd ]] || { in_node "$node" "$SERVICE" stop && in_node "$node" "$SERVICE" start; }
    say "$node reloaded"
  done
}
