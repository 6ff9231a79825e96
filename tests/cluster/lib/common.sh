# shellcheck shell=bash disable=SC2034
# Names, places and messages that every other piece uses.

CLUSTER=${STINT_CLUSTER:-stint}
CHECKOUT=${HERE%/*/*}
STATE=/var/lib/stint-cluster/$CLUSTER
CACHE=${STINT_CLUSTER_CACHE:-/var/cache/stint-cluster}
NODE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# die MESSAGE [HINT]: what went wrong, and what to do next.
die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  [[ -z ${2-} ]] || printf '%s: next: %s\n' "${0##*/}" "$2" >&2
  exit 1
}

# Progress, with the seconds since the command began.
say() {
  printf '%7.1fs  %s\n' "$(seconds_since "$BEGAN")" "$*" >&2
}

seconds_since() {
  local now=${EPOCHREALTIME/./} then=${1/./}
  printf '%d.%06d' $(((now - then) / 1000000)) $(((now - then) % 1000000))
}

# wait_until SECONDS COMMAND...: run COMMAND every 0.1 s until it succeeds.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

check_caller() {
  [[ $CLUSTER =~ ^[a-z][a-z0-9-]{0,19}$ ]] ||
    die "STINT_CLUSTER='$CLUSTER' is not a usable name" "use up to 20 small letters, digits and dashes"
  [[ $EUID == 0 ]] || die "only root can make namespaces, mounts and cgroups" "run it with sudo"
}

# One up, down, boot or crash at a time for each cluster. The lock file lies in the cache, so that `down` can
# remove the whole state directory. Daemons must not inherit it: close_descriptors.
take_lock() {
  mkdir -p "$CACHE"
  exec {LOCK}>"$CACHE/$CLUSTER.lock"
  flock --nonblock "$LOCK" ||
    die "another up, down, boot, crash or reload of cluster '$CLUSTER' is under way" "wait for it, or use another STINT_CLUSTER=name"
}

# CRIU cannot dump a process that holds a descriptor of another mount namespace, so nothing that runs in a
# node may inherit one. Descriptor 255 is bash's own and closes itself on exec.
close_descriptors() {
  local path fd
  for path in /proc/self/fd/*; do
    fd=${path##*/}
    ((fd <= 2 || fd == 255)) || eval "exec $fd>&-"
  done
}
