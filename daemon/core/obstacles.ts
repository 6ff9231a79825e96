/** What a rule of core/blockers.ts finds. */
export type BlockerKind =
  | 'identity' | 'namespace' | 'ended-main-thread' | 'vfork' | 'address-space' | 'descriptor-limit' | 'not-executable' | 'secret-memory' | 'kernel-object'
  | 'packet-pipe' | 'escaped-epoll' | 'outside-process' | 'socket-kind' | 'mptcp' | 'unaccepted-connection' | 'outside-file' | 'cgroup-file' | 'hardware-file'
  | 'stopped-guard' | 'eventfd-semaphore'

/** What stands in the way of a checkpoint, in words for the job's owner. */
export interface Obstacle {
  readonly kind:
    | 'lost-process' | 'traced' | 'user-namespace' | 'srun' | 'slurm-connection' | 'outside-connection' | 'unsent-data' | 'urgent-data' | 'device' | 'node-local-file' | 'carry-limit' | 'script-limit' | 'lease'
    | 'own-fs' | 'own-files' | 'absolute-timer' | 'speculation' | 'io-uring' | 'landlock' | 'no-requeue' | 'not-running' | 'overlong-path' | 'too-many' | 'removed-name' | 'unreadable-file' | 'socket-name'
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
  /** What it holds at a path longer than PATH_MAX. */
  readonly overlong?: readonly string[]
}

export interface ObservedConnection {
  readonly inode: string
  readonly remoteAddress: string
  readonly remotePort: number
  /** False for half-closed ones. */
  readonly isEstablished: boolean
}

function name(process: Pick<ObservedProcess, 'comm' | 'pid'>): string {
  return `${process.comm} (PID ${process.pid} in the sandbox)`
}

/**
 * Where the way up from a process ends: at the payload's root, at PID 1, or at 0 for one that entered from outside (CRIU itself).
 * @param known ends that were found before; what is found is added, so that a long chain of processes is walked once
 */
function topOf(pid: number, parents: ReadonlyMap<number, number>, rootPid: number, known: Map<number, number | undefined>): number | undefined {
  const way: number[] = []
  let at: number | undefined = pid
  while (at !== undefined && at > 1 && at !== rootPid && !known.has(at) && way.length <= parents.size) {
    way.push(at)
    at = parents.get(at)
  }
  const top = at !== undefined && known.has(at) ? known.get(at) : at
  for (const passed of way) known.set(passed, top)
  return top
}

function withTops<P extends { pid: number; parent: number }>(processes: readonly P[], rootPid: number): { process: P; top: number | undefined }[] {
  const parents = new Map(processes.map((p) => [p.pid, p.parent]))
  const known = new Map<number, number | undefined>()
  return processes.map((process) => ({ process, top: topOf(process.pid, parents, rootPid, known) }))
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
    for (const what of process.overlong ?? []) {
      obstacles.push({ kind: 'overlong-path', message: `${name(process)} has ${what} at a path of more than 4095 bytes, which CRIU cannot name`, remedy: 'Use a shorter path: change to a directory further up before the job is saved, or close the file.' })
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

/** Landlock's rules cannot be read from outside; a moved process would run without them. */
export function landlockObstacles(restricted: readonly Pick<ObservedProcess, 'comm' | 'pid'>[]): Obstacle[] {
  return restricted.map((process) => ({
    kind: 'landlock',
    message: `${name(process)} is, or may be, restricted by Landlock, and would lose that protection by a move`,
    remedy: 'Wait until it has ended, or start it without its Landlock sandbox (an option of the program).',
  }))
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
    if (connection.isEstablished && slurmPorts.has(connection.remotePort)) {
      return [{ kind: 'slurm-connection', message: `${name(owner)} is connected to Slurm at ${peer}`, remedy: 'Wait until the Slurm command has ended, or avoid it in the job.' }]
    }
    if (net === 'private') return []
    return [{ kind: 'outside-connection', message: `${name(owner)} is connected to ${peer} over the node's own network`, remedy: 'Submit without net=host, or close the connection first.' }]
  })
}

/** An open or mapped file, as far as leases matter. */
export interface LeasableFile {
  readonly pid: number
  readonly path: string
  /** Missing for mapped files and the working directory. */
  readonly fd: number | undefined
  readonly leased: boolean
  readonly deleted: boolean
}

/**
 * Leases (fcntl F_SETLEASE) on files that have to be opened for a checkpoint: that breaks the lease, by a signal that ends most
 * programs, and waits for its holder, who is frozen. CRIU opens what is mapped or deleted, tar what travels with the image.
 * @param travels whether a file is packed into the image by its name
 */
export function leaseObstacles(files: readonly LeasableFile[], travels: (path: string) => boolean): Obstacle[] {
  const mapped = new Set(files.filter((file) => file.fd === undefined).map((file) => file.path))
  const why = ({ path, deleted }: LeasableFile): string | undefined => {
    if (deleted) return 'is deleted'
    if (mapped.has(path)) return 'is mapped'
    return travels(path) ? 'must travel with the image' : undefined
  }
  return files.filter((file) => file.leased).flatMap((file) => {
    const reason = why(file)
    if (reason === undefined) return []
    return [{
      kind: 'lease' as const, message: `PID ${file.pid} holds a lease on ${file.path}, which ${reason}: reading it would break the lease`,
      remedy: 'Give up the lease (fcntl F_SETLEASE with F_UNLCK) before the job is saved, or keep the file on the shared file system, not mapped and not deleted.',
    }]
  })
}
