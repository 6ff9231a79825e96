# shellcheck shell=bash
# What runs where.

# Lines "NODE ADDRESS STATE SLURM STINTD".
status_rows() {
  local node state slurm stintd states=''
  ! node_is_up ctl || states=$(in_node ctl timeout 5 sinfo --noheader --Node --partition=batch --format='%N %T' 2>/dev/null) || true
  for node in $(node_names); do
    state=down slurm=- stintd=down
    slurm=$(awk -v node="$node" '$1 == node { print $2 }' <<<"$states")
    if node_is_up "$node"; then
      state=up
      stintd=$(in_node "$node" "$SERVICE" status) || true
    fi
    echo "$node $(node_address "$node") $state ${slurm:--} $stintd"
  done
}

cluster_status() {
  local rows node address state slurm stintd comma=''
  rows=$(status_rows)
  if [[ ${1-} != --json ]]; then
    [[ -n $rows ]] || { echo "cluster '$CLUSTER' is down"; return 0; }
    printf '%-6s %-12s %-6s %-12s %s\n' NODE ADDRESS STATE SLURM STINTD
    while read -r node address state slurm stintd; do
      printf '%-6s %-12s %-6s %-12s %s\n' "$node" "$address" "$state" "$slurm" "$stintd"
    done <<<"$rows"
    return
  fi
  printf '{"cluster":"%s","up":%s,"nodes":[' "$CLUSTER" "$(any_node_is_up && echo true || echo false)"
  while read -r node address state slurm stintd; do
    [[ -n $node ]] || continue
    printf '%s{"name":"%s","address":"%s","state":"%s","slurm":"%s","stintd":"%s"}' \
      "$comma" "$node" "$address" "$state" "$slurm" "$stintd"
    comma=,
  done <<<"$rows"
  echo ']}'
}
