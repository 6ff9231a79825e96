#!/bin/bash
# MPI between two nodes: over the nodes' own network, and over a run's private one without encapsulation and with VXLAN. Prints the
# table of docs/performance.md.
#
# usage: private-network.sh [ROUNDS]     as root, with a virtual cluster up (STINT_CLUSTER); ROUNDS: 7 unless told
#
# MPICH and Open MPI with TCP, all ways by turns; medians of the rounds, and of the ratios within each round, which hold on a
# machine with other work as well. Namespaces on both nodes stand for the sandboxes.
set -euo pipefail
ROUNDS=${1:-7}
HERE=$(dirname "$(realpath "$0")")
on() { "$HERE/../cluster/cluster" exec "$1" -- bash -c "$2"; }

MEMBER='/opt/stint/node_modules/.bin/node /opt/stint/tests/fixtures/programs/member.ts'
declare -A PID1
forget() {
  local key
  for key in "${!PID1[@]}"; do on "${key%/*}" "kill ${PID1[$key]}"; done
}
trap 'forget; on ctl "rm -rf /shared/pingpong"' EXIT

on ctl 'mkdir -p /shared/pingpong'
for mpi in mpich openmpi; do on ctl "mpicc.$mpi -O2 -o /shared/pingpong/pingpong.$mpi /opt/stint/tests/fixtures/programs/pingpong.c"; done

# view WAY MEMBER: a member's network, the third byte of whose addresses and the VNI are the way's
declare -A BLOCK=([none]=209 [vxlan]=210)
view() {
  echo "{\"network\":{\"vni\":$((8388608 + BLOCK[$1])),\"prefix\":\"100.64.${BLOCK[$1]}.0/24\",\"encapsulation\":\"$1\"},\"member\":$2,\"members\":[{\"member\":0,\"nodeAddress\":\"10.77.0.11\"},{\"member\":1,\"nodeAddress\":\"10.77.0.12\"}]}"
}
for way in none vxlan; do
  for n in n1 n2; do
    PID1[$n/$way]=$(on "$n" 'setsid unshare --net sleep 3600 </dev/null >/dev/null 2>&1 & echo $!; sleep 1')
    on "$n" "$MEMBER connect ${PID1[$n/$way]} '$(view $way $((${n#n} - 1)))' && $MEMBER open ${PID1[$n/$way]}" >/dev/null
  done
done
# UCX looks for devices in /sys, which shows those of the namespace it was mounted in: `inside PID1 COMMAND...` has its own.
on ctl "cat >/shared/pingpong/inside <<'INSIDE'
#!/bin/bash
pid=\$1; shift
exec nsenter --net=/proc/\$pid/ns/net unshare --mount bash -c 'mount -t sysfs sysfs /sys && exec \"\$@\"' - \"\$@\"
INSIDE
chmod +x /shared/pingpong/inside"
# What mpirun calls in place of ssh: the other node's namespace. Its arguments: options, host, command for a shell.
for way in none vxlan; do
  on ctl "cat >/shared/pingpong/agent.$way <<'AGENT'
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
shift
exec ssh -x 10.77.0.12 \"/shared/pingpong/inside ${PID1[n2/$way]} sh -c \$(printf %q \"\$*\")\"
AGENT
chmod +x /shared/pingpong/agent.$way"
done

# play MPI WAY: one round, `latency bandwidth`.
play() {
  local device=eth0 first=10.77.0.11 second=10.77.0.12 agent='ssh -x' inside=
  if [[ $2 != node ]]; then
    device=stint0 first=100.64.${BLOCK[$2]}.1 second=100.64.${BLOCK[$2]}.2 agent=/shared/pingpong/agent.$2 inside="/shared/pingpong/inside ${PID1[n1/$2]}"
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
    rounds+="$(play "$mpi" node) $(play "$mpi" none) $(play "$mpi" vxlan)"$'\n'
  done
  # shellcheck disable=SC2016  # awk's fields
  {
    # of FORMULA: its median over the rounds. $1 and $2 are the node's figures, then come those without encapsulation, and of VXLAN.
    of() { awk "{ print $1 }" <<<"${rounds%$'\n'}" | median; }
    echo "| $mpi | node | $(of '$1') us | $(of '$2') MB/s |"
    echo "| $mpi | private | $(of '$3') us | $(of '$4') MB/s |"
    printf '| %s | private / node | %.2f | %.2f |\n' "$mpi" "$(of '$3 / $1')" "$(of '$4 / $2')"
    echo "| $mpi | private, VXLAN | $(of '$5') us | $(of '$6') MB/s |"
    printf '| %s | private, VXLAN / node | %.2f | %.2f |\n' "$mpi" "$(of '$5 / $1')" "$(of '$6 / $2')"
  }
done
