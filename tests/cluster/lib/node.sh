# shellcheck shell=bash
# A node: an overlay on the common layer and the root file system, in namespaces of its own, with tini as PID 1.

node_names() {
  [[ ! -r $STATE/nodes.list ]] || cat "$STATE/nodes.list"
}

require_node() {
  [[ -n $1 && -r $STATE/nodes.list && $'\n'$(<"$STATE/nodes.list")$'\n' == *$'\n'"$1"$'\n'* ]] ||
    die "cluster '$CLUSTER' has no node '$1'" "nodes are: $(node_names | xargs); 'cluster up' starts a cluster"
}

# node_pid NODE: its PID 1 as this machine sees it. A PID that now belongs to something else is not in the node's
# cgroups, and a zombie has no mount namespace.
node_pid() {
  local pid
  { read -r pid _ <"$STATE/nodes/$1/init.pid"; } 2>/dev/null || return 1
  [[ $(cat "/proc/$pid/cgroup" 2>/dev/null)$'\n' == *":/$CGROUP.$1"$'\n'* && -e /proc/$pid/ns/mnt ]] || return 1
  echo "$pid"
}

node_is_up() {
  node_pid "$1" >/dev/null
}

any_node_is_up() {
  local node
  for node in $(node_names); do
    ! node_is_up "$node" || return 0
  done
  return 1
}

# boot_node NODE: returns when the node has a PID 1; its services start meanwhile.
boot_node() {
  local dir=$STATE/nodes/$1 clock
  clock=$(clock_offset "$1")
  mkdir -p "$dir"/{upper,work,root}
  rm -f "$dir/init.pid"
  cgroup_make "$1"
  plug "$1"
  cgroup_hierarchies >"$dir/cgroups"
  (
    cgroup_join "$1"
    close_descriptors
    exec setsid env -i PATH="$NODE_PATH" nsenter --net="$dir/net" \
      unshare --mount --uts --ipc --pid --cgroup --time --monotonic "$clock" --boottime "$clock" --fork \
      "$HERE/lib/node-init" "$1" "$STATE" "$CHECKOUT" "$(<"$STATE/rootfs")" </dev/null >"$dir/console.log" 2>&1
  ) &
  wait_until 10 test -s "$dir/init.pid" || {
    cat "$dir/console.log" >&2
    die "node $1 did not start" "see $dir/console.log; 'cluster down' removes what is there"
  }
}

# clock_offset NODE: machines differ in the time since their boot, and a restored program must not notice. Nodes start with 1000 s, 2000 s and so on, and with 1 s after a crash.
clock_offset() {
  local up=1 machine_up
  [[ -d $STATE/nodes/$1/upper ]] || up=$(((${1//[^0-9]/} + 1) * 1000))
  read -r machine_up _ </proc/uptime
  echo $((up - ${machine_up%.*}))
}

# crash_node NODE: every process of the node ends at once, as in a power failure. Its disk stays.
crash_node() {
  local pid
  ! pid=$(node_pid "$1") || kill -KILL "$pid"
  cgroup_kill "$1"
  unplug "$1"
  rm -f "$STATE/nodes/$1/init.pid"
  wait_until 20 node_is_gone "$1" ||
    die "processes of node $1 do not end: $(node_processes "$1" | xargs)" "look at them with ps, then repeat the command"
}

# Kills again, since a process may have been entering while the others were killed.
node_is_gone() {
  cgroup_kill "$1"
  cgroup_remove "$1" || [[ -z $(cgroup_directories "$1") ]]
}

node_processes() {
  local dirs
  mapfile -t dirs < <(cgroup_directories "$1")
  ((${#dirs[@]})) || return 0
  find "${dirs[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -nu
}

# enter_node NODE USER COMMAND...: becomes COMMAND in the node, with the environment and directory of a fresh login.
# --pdeathsig: when this process is killed, so is COMMAND (nsenter, which waits for it, does not pass signals on).
enter_node() {
  local node=$1 user=$2 pid
  shift 2
  pid=$(node_pid "$node") || die "node $node is down" "start it with 'cluster boot $node', or all with 'cluster up'"
  cgroup_join "$node"
  close_descriptors
  # The single quotes are meant: HOME is that of the user in the node.
  # shellcheck disable=SC2016
  exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup --time --wdns=/ -- \
    /usr/bin/env -i TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    setpriv --reuid "$user" --regid "$user" --init-groups --reset-env --pdeathsig TERM -- \
    sh -c 'cd && unset OLDPWD && case $USER in root) PATH='"$NODE_PATH"'; export NODE_COMPILE_CACHE=/var/cache/stint;; *) PATH=/usr/local/bin:/usr/bin:/bin;; esac && export PATH LANG=C.UTF-8 && exec "$@"' sh "$@"
}

# in_node NODE COMMAND...: the same as root, and come back.
in_node() {
  local node=$1
  shift
  (enter_node "$node" root "$@")
}
