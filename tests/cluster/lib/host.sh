# shellcheck shell=bash
# What the machine itself must have. Slurm and CRIU are not among it: they run in the nodes only.

install_host_packages() {
  local need missing=()
  for need in mmdebstrap:mmdebstrap ip:iproute2 nsenter:util-linux mount:mount ssh-keygen:openssh-client; do
    command -v "${need%:*}" >/dev/null || missing+=("${need#*:}")
  done
  ((${#missing[@]})) || return 0

  say "installing ${missing[*]} on this machine"
  apt_install "${missing[@]}" || { apt-get update -q >&2 && apt_install "${missing[@]}"; } ||
    die "cannot install ${missing[*]}" "install them by hand with apt-get"
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >/dev/null
}

check_host() {
  # With cgroup v2 alone a node would need slurmd to share its root cgroup with PID 1, which v2 forbids.
  grep -q '^cgroup .*[ ,]freezer[ ,]' /proc/mounts ||
    die "this machine has no cgroup v1 hierarchies" "boot it with systemd.unified_cgroup_hierarchy=0, or use a machine in hybrid mode"
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || die "the kernel has no overlayfs"
}
