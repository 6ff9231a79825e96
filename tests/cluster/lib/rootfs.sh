# shellcheck shell=bash
# The root file system below all nodes: a Debian tree made once for each state of its inputs, then only read.
# ROOTFS_INPUTS: directories with a list `packages` and mmdebstrap hooks `setup` and `customize`, run in this order.

# rootfs_path SUITE
rootfs_path() {
  local hash
  hash=$({ rootfs_inputs; echo "$1" "${STINT_CLUSTER_MIRROR-}"; } | sha256sum)
  echo "$CACHE/rootfs-$1-${hash:0:12}"
}

rootfs_inputs() {
  local dir
  for dir in "${ROOTFS_INPUTS[@]}"; do cat "$dir"/*; done
}

# ensure_rootfs SUITE
ensure_rootfs() {
  local path lock
  path=$(rootfs_path "$1")
  [[ -d $path ]] && return

  # Clusters that start at the same time share one build.
  exec {lock}>"$CACHE/build.lock"
  flock "$lock"
  if [[ ! -d $path ]]; then
    say "building the root file system (once; log: $path.log)"
    build_rootfs "$1" "$path"
    say "root file system built: $path"
  fi
  exec {lock}>&-
}

# build_rootfs SUITE PATH: whole or not at all. Whatever mmdebstrap mounts goes with its mount namespace.
build_rootfs() {
  local suite=$1 path=$2 packages dir hooks=()
  packages=$(cat "${ROOTFS_INPUTS[@]/%//packages}" | grep -v '^#' | xargs | tr ' ' ,)
  for dir in "${ROOTFS_INPUTS[@]}"; do
    [[ ! -x $dir/setup ]] || hooks+=(--setup-hook="$dir/setup \"\$1\"")
    [[ ! -x $dir/customize ]] || hooks+=(--customize-hook="$dir/customize \"\$1\"")
  done
  rm -rf "$CACHE"/rootfs-*.new
  unshare --mount mmdebstrap --mode=root --format=directory --variant=apt --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt=force-unsafe-io "${hooks[@]}" \
    "$suite" "$path.new" ${STINT_CLUSTER_MIRROR:+"$STINT_CLUSTER_MIRROR"} >"$path.log" 2>&1 ||
    { tail -n 20 "$path.log" >&2; die "the root file system could not be built" "read $path.log"; }
  mv "$path.new" "$path"
}
