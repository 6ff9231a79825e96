# shellcheck shell=bash
# The Slurm plugin, built against the nodes' own Slurm and C library. Nothing is written to the checkout.

has_plugin() {
  [[ -e $CHECKOUT/plugins/spank/Makefile ]]
}

# build_plugin ROOTFS: result in $STATE/plugin/stage, laid out as in a node. Whole or not at all.
build_plugin() {
  has_plugin || { say "no plugins/spank/Makefile yet: nodes run without the plugin"; return 0; }
  local work=$STATE/plugin
  mkdir -p "$work/build"
  rm -rf "$work/stage.new"
  # The single quotes are meant: the arguments are those of the inner shell.
  # shellcheck disable=SC2016
  unshare --mount sh -euc '
    mount --bind "$1" "$1"
    mount -o remount,bind,ro "$1"
    mount --bind "$2" "$1/opt/stint"
    mount -o remount,bind,ro "$1/opt/stint"
    mount --bind "$3" "$1/mnt"
    mount --bind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/tmp"
    exec env -i PATH="$4" LANG=C.UTF-8 \
      chroot "$1" make -C /opt/stint/plugins/spank all install BUILD=/mnt/build DESTDIR=/mnt/stage.new
  ' sh "$1" "$CHECKOUT" "$work" "$NODE_PATH" >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; die "the plugin could not be built" "the whole output is in $work/build.log"; }
  rm -rf "$work/stage"
  mv "$work/stage.new" "$work/stage"
}

# install_plugin NODE: into a running node. Files are replaced, not overwritten: slurmstepd may have them mapped.
install_plugin() {
  [[ -d $STATE/plugin/stage ]] || return 0
  tar -C "$STATE/plugin/stage" -c . | in_node "$1" tar -C / -x --no-overwrite-dir
}
