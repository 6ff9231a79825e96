# shellcheck shell=bash
# Each node has a directory of its own at the top of every hierarchy of the machine (v1 and unified alike); the
# node's cgroup namespace makes it the node's root.

# Of a node: $CGROUP.NODE. A variable, since a function's output would be a process more for every `cluster exec`.
CGROUP=stint-cluster.$CLUSTER

# Lines "MOUNTPOINT TYPE OPTIONS", the options being those that name the hierarchy.
cgroup_hierarchies() {
  awk 'NR == FNR { controller[$1]; next }
    $3 == "cgroup" || $3 == "cgroup2" {
      chosen = ""; count = split($4, option, ",")
      for (i = 1; i <= count; i++)
        if (option[i] in controller) chosen = chosen "," option[i]
        else if (option[i] ~ /^name=/) chosen = chosen ",none," option[i]
      print $2, $3, chosen == "" ? "-" : substr(chosen, 2)
    }' /proc/cgroups /proc/self/mounts
}

cgroup_make() {
  local mountpoint dir file
  while read -r mountpoint _; do
    dir=$mountpoint/$CGROUP.$1
    mkdir -p "$dir"
    # A v1 cpuset takes no process before it is told its CPUs and memory nodes.
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -e $dir/$file || -z $(cat "$mountpoint/$file") ]] || cat "$mountpoint/$file" >"$dir/$file"
    done
  done < <(cgroup_hierarchies)
}

# The calling process enters the node's cgroups, in the hierarchies of the time of its boot.
cgroup_join() {
  local mountpoint
  while read -r mountpoint _; do
    echo "$BASHPID" >"$mountpoint/$CGROUP.$1/cgroup.procs"
  done <"$STATE/nodes/$1/cgroups"
}

# The directories of a node, or of all nodes of this cluster (NODE '*'), whether its state is known or lost.
cgroup_directories() {
  local mountpoint dir
  while read -r mountpoint _; do
    for dir in "$mountpoint/$CGROUP".$1; do
      [[ ! -d $dir ]] || echo "$dir"
    done
  done < <(cgroup_hierarchies)
}

# cgroup_kill NODE: end what is left of the node. Only processes of a PID namespace that is not ours are killed:
# their parents outside (nsenter, unshare) end with them. A frozen v1 process does not take SIGKILL: thaw first.
cgroup_kill() {
  local dirs dir pid ours
  mapfile -t dirs < <(cgroup_directories "$1")
  ((${#dirs[@]})) || return 0
  while read -r dir; do echo THAWED >"$dir"; done < <(find "${dirs[@]}" -name freezer.state -writable 2>/dev/null)
  ours=$(readlink /proc/self/ns/pid)
  while read -r pid; do
    [[ $(readlink "/proc/$pid/ns/pid" 2>/dev/null || echo "$ours") == "$ours" ]] || kill -KILL "$pid" 2>/dev/null || true
  done < <(find "${dirs[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -nu)
}

cgroup_remove() {
  local dirs
  mapfile -t dirs < <(cgroup_directories "$1")
  ((${#dirs[@]})) || return 0
  find "${dirs[@]}" -depth -type d -exec rmdir {} + 2>/dev/null
}
