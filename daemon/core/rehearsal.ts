import { Type, type Static } from 'typebox'
import { carriedTrees } from './file-places.ts'
import type { Trigger } from './states.ts'
import { boundUnixSockets } from './unix-sockets.ts'

/** Rules of the rehearsal: an image is restored beside the frozen payload, up to CRIU's barrier, before anything is decided. */

export const rehearseModes = ['never', 'first', 'always'] as const
export type RehearseMode = (typeof rehearseModes)[number]

/** What became of a member's rehearsal. One that failed is an error, E_REHEARSAL_FAILED. */
export const RehearsalReport = Type.Object({
  outcome: Type.Union([Type.Literal('passed'), Type.Literal('skipped')]),
  /** Why it was skipped. */
  reason: Type.Union([Type.String(), Type.Null()]),
  seconds: Type.Number(),
})
export type RehearsalReport = Static<typeof RehearsalReport>

export interface RehearsalFacts {
  readonly mode: RehearseMode
  readonly trigger: Trigger
  /** In this stint. */
  readonly rehearsedBefore: boolean
  /** Until Slurm ends the job; infinite without limit. */
  readonly secondsLeft: number
  /** For a whole checkpoint. */
  readonly predictedSeconds: number
  /** Kept free before the limit. */
  readonly marginSeconds: number
}

/** A restore reads what a dump wrote, and takes about as long; so many times that is enough for one that succeeds. */
const patience = 3
/** For what does not depend on bytes. */
const leastSeconds = 10

/**
 * Whether a checkpoint is rehearsed, and how long that may take. Not when Slurm ends the job anyway: the image is all that will be left
 * of it then, and a doubt about it would change nothing.
 */
export function planRehearsal({ mode, trigger, rehearsedBefore, secondsLeft, predictedSeconds, marginSeconds }: RehearsalFacts): { readonly what: 'none' } | { readonly what: 'skip'; readonly reason: string } | { readonly what: 'rehearse'; readonly seconds: number } {
  if (mode === 'never' || trigger === 'walltime' || trigger === 'preemption' || (mode === 'first' && rehearsedBefore)) return { what: 'none' }
  // The rest of this checkpoint, or the one at the walltime if this one is dropped.
  const spare = secondsLeft - 2 * predictedSeconds - marginSeconds
  const seconds = leastSeconds + patience * predictedSeconds
  return spare < seconds ? { what: 'skip', reason: 'too little time is left before the walltime' } : { what: 'rehearse', seconds }
}

/** What a rehearsal must know of a file that the payload has open. */
export interface RehearsedFile {
  readonly path: string
  readonly deleted: boolean
  readonly writable: boolean
  readonly kind: string
}

/** What the throw-away sandbox must let a restore do; all else in it is read-only. */
export interface RehearsalView {
  /** Directories in which names are made and removed: overlays. */
  readonly over: readonly string[]
  /** Files that are opened for writing. */
  readonly write: readonly string[]
}

function directoryOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf('/')))
}

function isPrivate(path: string): boolean {
  return [...carriedTrees, '/proc', '/dev', '/sys'].some((tree) => path === tree || path.startsWith(`${tree}/`))
}

/** The kernel's names of memory that is mapped like a file (SysV segments, memfd), which stand in no directory. */
function isMemory(path: string): boolean {
  return /^\/(?:SYSV[0-9a-f]{8}$|memfd:|anon_hugepage$)/.test(path)
}

/** NFS keeps a deleted file that is open under such a name; CRIU takes it for deleted. */
function isSillyName(path: string): boolean {
  return /\/\.nfs[0-9a-f]+$/.test(path)
}

/**
 * The view for these files. A deleted file comes back under its name for a moment, or by the name that the dump gave it; a bound socket
 * is removed and bound again; a FIFO opened through its own file system would be the payload's own, with its content.
 * @param sockets paths that Unix sockets of the payload are bound to
 */
export function rehearsalView(files: readonly RehearsedFile[], sockets: readonly string[]): RehearsalView {
  const changing = files.filter((file) => file.deleted || file.kind === 'fifo' || isSillyName(file.path)).map((file) => file.path).filter((path) => !isMemory(path))
  const writable = files.filter((file) => file.writable && file.kind === 'file' && !file.deleted && !isSillyName(file.path)).map((file) => file.path)
  const unique = (paths: readonly string[]): string[] => [...new Set(paths)].sort()
  return {
    over: unique([...changing, ...sockets].filter((path) => !isPrivate(path)).map(directoryOf)),
    write: unique(writable.filter((path) => !isPrivate(path))),
  }
}

/** Paths of bound Unix sockets by inode, out of /proc/PID/net/unix; abstract names are no paths. */
export function boundSockets(table: string): Map<string, string> {
  return new Map(boundUnixSockets(table).map(({ inode, path }) => [inode, path]))
}

/** Whether a process holds a lease (fcntl F_SETLEASE): opening the file beside it would break the lease. @param locks /proc/locks */
export function holdsLease(locks: string, pids: readonly number[]): boolean {
  return locks.split('\n').some((line) => {
    const match = /^\d+: (?:LEASE|DELEG) +\S+ +\S+ +(\d+) /.exec(line)
    return match !== null && pids.includes(Number(match[1]))
  })
}

/** Memory that must be free for the second copy of the payload: what the image holds, and a reserve so that nobody is pushed out. */
export function memoryNeeded(imageBytes: number): number {
  return imageBytes * 1.25 + 256e6
}

/** A fault of the rehearsal's own making: it says nothing about the image. */
export function isOwnFault(message: string, exitCode: unknown): boolean {
  return /Read-only file system|No space left on device|Cannot allocate memory/.test(message) || (typeof exitCode === 'number' && exitCode >= 128)
}
