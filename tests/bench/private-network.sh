#!/bin/bash
# MPI between two nodes: over the nodes' own network, and over a run's private one. Prints the table of docs/performance.md.
#
# usage: private-network.sh [ROUNDS]     as root, with a virtual cluster up (STINT_CLUSTER); ROUNDS: 7 unless told
#
# Both ways by turns, MPICH with TCP; medians of the rounds. Namespaces on both nodes stand for the sandboxes.
set -euo pipefail
ROUNDS=${1:-7}
HERE=$(dirname "$(realpath "$0")")
on() { "$HERE/../cluster/cluster" exec "$1" -- bash -c "$2"; }

MEMBER='/opt/stint/node_modules/.bin/node /opt/stint/tests/fixtures/programs/member.ts'
VIEW='{"network":{"vni":8389608,"prefix":"100.64.209.0/24"},"member":MEMBER,"members":[{"member":0,"nodeAddress":"10.77.0.11"},{"member":1,"nodeAddress":"10.77.0.12"}]}'
declare -A PID1
trap 'for n in "${!PID1[@]}"; do on "$n" "kill ${PID1[$n]}"; done; on ctl "rm -rf /shared/pingpong"' EXIT

on ctl 'mkdir -p /shared/pingpong && mpicc.mpich -O2 -o /shared/pingpong/pingpong /opt/stint/tests/fixtures/programs/pingpong.c'
for n in n1 n2; do
  PID1[$n]=$(on "$n" 'setsid unshare --net sleep 3600 </dev/null >/dev/null 2>&1 & echo $!; sleep 1')
  on "$n" "$MEMBER connect ${PID1[$n]} '${VIEW/MEMBER/$((${n#n} - 1))}' && $MEMBER open ${PID1[$n]}" >/dev/null
done
# UCX looks for devices in /sys, which shows those of the namespace it was mounted in: `inside PID1 COMMAND...` has its own.
on ctl "cat >/shared/pingpong/inside <<'INSIDE'
#!/bin/bash
pid=\$1; shift
exec nsenter --net=/proc/\$pid/ns/net unshare --mount bash -c 'mount -t sysfs sysfs /sys && exec \"\$@\"' - \"\$@\"
INSIDE
chmod +x /shared/pingpong/inside"
# What mpiexec calls in place of ssh: the other node's namespace. Its arguments: options, host, command.
on ctl "cat >/shared/pingpong/agent <<'AGENT'
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
shift
exec ssh -x 10.77.0.12 /shared/pingpong/inside ${PID1[n2]} \"\$@\"
AGENT
chmod +x /shared/pingpong/agent"

node_network() {
  on n1 'UCX_TLS=tcp UCX_NET_DEVICES=eth0 HYDRA_RMK=user mpiexec.mpich -launcher ssh -localhost 10.77.0.11 -iface eth0 -hosts 10.77.0.11,10.77.0.12 -ppn 1 -n 2 /shared/pingpong/pingpong'
}
private_network() {
  on n1 "UCX_TLS=tcp UCX_NET_DEVICES=stint0 HYDRA_RMK=user /shared/pingpong/inside ${PID1[n1]} mpiexec.mpich -launcher ssh -launcher-exec /shared/pingpong/agent -localhost 100.64.209.1 -iface stint0 -hosts 100.64.209.1,100.64.209.2 -ppn 1 -n 2 /shared/pingpong/pingpong"
}
# median FIELD: of the lines on standard input
median() { awk -v f="$1" '{ print $f }' | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

node='' private=''
for ((round = 1; round <= ROUNDS; round++)); do
  node+=$(node_network)$'\n'
  private+=$(private_network)$'\n'
done
echo "| network | latency, 8 bytes | bandwidth, 1 MiB messages |"
echo "| --- | --- | --- |"
for way in node private; do
  lines=${!way}
  echo "| $way | $(median 1 <<<"${lines%$'\n'}") us | $(median 2 <<<"${lines%$'\n'}") MB/s |"
done
