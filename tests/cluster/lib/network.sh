# shellcheck shell=bash
# A bridge in a network namespace of its own, and a cable (veth pair) from it to each node. The namespaces are held
# by bind mounts in the state directory, and no device is ever in the machine's own namespace: clusters cannot meet,
# nor is /run/netns touched.

node_address() {
  if [[ $1 == ctl ]]; then echo 10.77.0.10; else echo "10.77.0.$((10 + ${1#n}))"; fi
}

# hold_namespace FILE: a new network namespace with its loopback up.
hold_namespace() {
  : >"$1"
  unshare --net="$1" ip link set lo up
}

release_namespace() {
  ! mountpoint -q "$1" 2>/dev/null || umount "$1"
}

switch_make() {
  hold_namespace "$STATE/switch.net"
  in_switch ip -batch - <<<$'link add br0 type bridge\nlink set br0 up'
}

in_switch() {
  nsenter --net="$STATE/switch.net" "$@"
}

# plug NODE: a new network namespace for the node, on the switch.
plug() {
  local net=$STATE/nodes/$1/net
  hold_namespace "$net"
  in_switch ip -batch - <<<"link add $1 type veth peer name eth0 netns $net
link set $1 master br0 up"
  nsenter --net="$net" ip -batch - <<<"addr add $(node_address "$1")/24 dev eth0
link set eth0 up"
}

# unplug NODE: the device is removed by name, since the kernel takes its time over a namespace that ended.
unplug() {
  in_switch ip link delete "$1" 2>/dev/null || true
  release_namespace "$STATE/nodes/$1/net"
}
