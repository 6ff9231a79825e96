#!/bin/bash
# MPI between two nodes: over the nodes' own network, and over a run's private one. Prints the table of docs/performance.md.
#
# usage: private-network.sh [ROUNDS]     as root, with a virtual cluster up (STINT_CLUSTER); ROUNDS: 7 unless told
#
# MPICH and Open MPI with TCP, both ways by turns; medians of the rounds, and of the ratios within each round, which hold on a
# machine with other work as well. Namespaces on both nodes stand for the sandboxes.
set -euo pipefail
ROUNDS=${1:-7}
HERE=$(dirname "$(realpath "$0")")
on() { "$HERE/../cluster/cluster" exec "$1" -- bash -c "$2"; }

MEMBER='/opt/stint/node_modules/.bin/node /opt/stint/tests/fixtures/programs/member.ts'
VIEW='{"network":{"vni":8389608,"prefix":"100.64.209.0/24"},"member":MEMBER,"members":[{"member":0,"nodeAddress":"10.77.0.11"},{"member":1,"nodeAddress":"10.77.0.12"}]}'
declare -A PID1
trap 'for n in "${!PID1[@]}"; do on "$n" "kill ${PID1[$n]}"; done; on ctl "rm -rf /shared/pingpong"' EXIT

on ctl 'mkdir -p /shared/pingpong'
for mpi in mpich openmpi; do on ctl "mpicc.$mpi -O2 -o /shared/pingpong/pingpong.$mpi /opt/stint/tests/fixtures/programs/pingpong.c"; done
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
# What mpirun calls in place of ssh: the other node's namespace. Its arguments: options, host, command for a shell.
on ctl "cat >/shared/pingpong/agent <<'AGENT'
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
shift
exec ssh -x 10.77.0.12 \"/shared/pingpong/inside ${PID1[n2]} sh -c \$(printf %q \"\$*\")\"
AGENT
chmod +x /shared/pingpong/agent"

# play MPI WAY: one round, `latency bandwidth`.
play() {
  local device=eth0 first=10.77.0.11 second=10.77.0.12 agent='ssh -x' inside=
  if [[ $2 == private ]]; then
    device=stint0 first=100.64.209.1 second=100.64.209.2 agent=/shared/pingpong/agent inside="/shared/pingpong/inside ${PID1[n1]}"
  fi
  local ucx="export UCX_TLS=tcp UCX_NET_DEVICES=$device"
  case $1 in
    mpich)
      local launcher=
      [[ $2 == node ]] || launcher="-launcher-exec $agent"
      on n1 "$ucx HYDRA_RMK=user; $inside mpiexec.mpich -launcher ssh $launcher -localhost $first -iface $device -hosts $first,$second -ppn 1 -n 2 /shared/pingpong/pingpong.mpich"
      ;;
    openmpi)
      on n1 "$ucx PRTE_MCA_plm=ssh PRTE_MCA_plm_ssh_agent='$agent' PRTE_MCA_prte_if_include=$device OMPI_MCA_btl_tcp_if_include=$device
        $inside mpirun.openmpi --allow-run-as-root --host n1,n2 --map-by node -n 2 /shared/pingpong/pingpong.openmpi"
      ;;
  esac
}

# median: of the numbers on standard input
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

echo "| MPI | network | latency, 8 bytes | bandwidth, 1 MiB messages |"
echo "| --- | --- | --- | --- |"
for mpi in mpich openmpi; do
  rounds=''
  for ((round = 1; round <= ROUNDS; round++)); do
    rounds+="$(play "$mpi" node) $(play "$mpi" private)"$'\n'
  done
  # shellcheck disable=SC2016  # awk's fields
  {
    # of FORMULA: its median over the rounds, of which $1 and $2 are the node's figures, $3 and $4 the private network's.
    of() { awk "{ print $1 }" <<<"${rounds%$'\n'}" | median; }
    echo "| $mpi | node | $(of '$1') us | $(of '$2') MB/s |"
    echo "| $mpi | private | $(of '$3') us | $(of '$4') MB/s |"
    printf '| %s | private / node | %.2f | %.2f |\n' "$mpi" "$(of '$3 / $1')" "$(of '$4 / $2')"
  }
done
