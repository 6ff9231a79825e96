import { StintError } from './errors.ts'

/**
 * Which node each member of a run gets in a new allocation. Member 0 is where Slurm starts the batch script; another member
 * stays on the node it had where that is in the allocation again (its page cache may still have the image), the rest take
 * the other nodes in Slurm's order.
 * @param before nodes of the last stint, by member
 * @param allocated nodes of this allocation, in Slurm's order
 * @throws StintError E_TOO_FEW_NODES
 */
export function placeMembers(before: readonly string[], allocated: readonly string[], batchHost: string): string[] {
  if (allocated.length < before.length) {
    throw new StintError('E_TOO_FEW_NODES', `the run has ${before.length} members, this allocation ${allocated.length} ${allocated.length === 1 ? 'node' : 'nodes'}`)
  }
  const free = new Set(allocated.filter((node) => node !== batchHost))
  const placed = before.map((node, member) => {
    if (member === 0) return batchHost
    return free.delete(node) ? node : undefined
  })
  const rest = [...free]
  return placed.map((node) => node ?? rest.shift() ?? '')
}

/** Hosts of a first allocation, by member: the batch host first, the others in Slurm's order. */
export function hostsOf(allocated: readonly string[], batchHost: string): string[] {
  return [batchHost, ...allocated.filter((node) => node !== batchHost)]
}
