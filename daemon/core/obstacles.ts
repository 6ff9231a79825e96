import type { BlockerKind } from './blockers.ts'

/** What stands in the way of a checkpoint, in words for the job's owner. */
export interface Obstacle {
  readonly kind:
    | 'lost-process' | 'traced' | 'user-namespace' | 'srun' | 'slurm-connection' | 'outside-connection' | 'device' | 'node-local-file' | 'carry-limit'
    | 'io-uring' | 'no-requeue' | 'not-running'
    | BlockerKind
  readonly message: string
  readonly remedy: string
}

export interface ObservedProcess {
  readonly pid: number
  readonly parent: number
  readonly comm: string
  readonly state: string
  readonly tracer: number
  readonly userNamespace: string | undefined
  readonly sockets: readonly string[]
  readonly anonymous: readonly string[]
}

export interface ObservedConnection {
  readonly inode: string
  readonly remoteAddress: string
  readonly remotePort: number
}

function name(process: ObservedProcess): string {
  return `${process.comm} (PID ${process.pid} in the sandbox)`
}

/** Where the way up from a process ends: at the payload's root, at PID 1, or at 0 for one that entered from outside (CRIU itself). */
function topOf(pid: number, parents: ReadonlyMap<number, number>, rootPid: number): number | undefined {
  let at: number | undefined = pid
  for (let steps = 0; at !== undefined && at > 1 && at !== rootPid && steps <= parents.size; steps++) at = parents.get(at)
  return at
}

function withTops<P extends { pid: number; parent: number }>(processes: readonly P[], rootPid: number): { process: P; top: number | undefined }[] {
  const parents = new Map(processes.map((p) => [p.pid, p.parent]))
  return processes.map((process) => ({ process, top: topOf(process.pid, parents, rootPid) }))
}

/** Processes that hang below PID 1 but not below the payload's root: CRIU would leave them out without a word. */
export function outsideTree<P extends { pid: number; parent: number }>(processes: readonly P[], rootPid: number): P[] {
  return withTops(processes, rootPid).filter(({ top }) => top !== undefined && top !== rootPid && top !== 0).map(({ process }) => process)
}

/** The payload itself. */
export function insideTree<P extends { pid: number; parent: number }>(processes: readonly P[], rootPid: number): P[] {
  return withTops(processes, rootPid).filter(({ top }) => top === rootPid).map(({ process }) => process)
}

/** Obstacles among the processes themselves. @param ownUserNamespace the node's, as PID 1 of the sandbox has it */
export function processObstacles(processes: readonly ObservedProcess[], rootPid: number, ownUserNamespace: string): Obstacle[] {
  const obstacles: Obstacle[] = []
  for (const lost of outsideTree(processes, rootPid)) {
    obstacles.push({ kind: 'lost-process', message: `${name(lost)} is outside the job's process tree and would be lost`, remedy: 'End it, or start it from the job script.' })
  }
  for (const process of processes) {
    if (process.tracer !== 0) obstacles.push({ kind: 'traced', message: `${name(process)} is being traced`, remedy: 'Detach the debugger or strace, then try again.' })
    if (process.userNamespace !== undefined && process.userNamespace !== ownUserNamespace) {
      obstacles.push({ kind: 'user-namespace', message: `${name(process)} runs in its own user namespace, which CRIU cannot save`, remedy: 'Start the container without a user namespace.' })
    }
    if (process.comm === 'srun') {
      obstacles.push({ kind: 'srun', message: `${name(process)} holds connections to Slurm that cannot be restored`, remedy: 'Start MPI ranks with mpirun instead of srun.' })
    }
    if (process.anonymous.some((a) => a.includes('io_uring'))) {
      obstacles.push({ kind: 'io-uring', message: `${name(process)} uses io_uring, which CRIU cannot save`, remedy: 'Switch it off in the program (Node.js: UV_USE_IO_URING=0).' })
    }
  }
  return obstacles
}

const slurmPorts = new Set([6817, 6818, 6819])

/**
 * Obstacles among established connections.
 * @param isInside whether an address is the sandbox's own
 */
export function connectionObstacles(
  connections: readonly ObservedConnection[], processes: readonly ObservedProcess[], net: 'private' | 'host', isInside: (address: string) => boolean,
): Obstacle[] {
  const owners = new Map(processes.flatMap((p) => p.sockets.map((inode) => [inode, p] as const)))
  return connections.flatMap((connection): Obstacle[] => {
    const owner = owners.get(connection.inode)
    if (owner === undefined || isInside(connection.remoteAddress)) return []
    const peer = `${connection.remoteAddress}:${connection.remotePort}`
    if (slurmPorts.has(connection.remotePort)) {
      return [{ kind: 'slurm-connection', message: `${name(owner)} is connected to Slurm at ${peer}`, remedy: 'Wait until the Slurm command has ended, or avoid it in the job.' }]
    }
    if (net === 'private') return []
    return [{ kind: 'outside-connection', message: `${name(owner)} is connected to ${peer} over the node's own network`, remedy: 'Submit without net=host, or close the connection first.' }]
  })
}
