/** Rules for a saved job that is to go on: which way is next when a checkpoint could not be restored here. */

/** What the job's owner (`--stint=fallback=`) or else the site (restore.fallback) wants when no checkpoint can be restored. */
export type Fallback = 'hold' | 'start'

/** One checkpoint that could not be restored on this node. */
export interface FailedWay {
  readonly checkpoint: number
  /** No other node would do better: it is damaged, or was tried as often as it may be. */
  readonly final: boolean
  /** It would have come back as something else than was saved. Nobody is to find out by trying what passes: neither here nor elsewhere. */
  readonly refused?: boolean
  /** Nobody vouches for it: somebody may have written it who wants the job to run something else, or to lose what it has done. */
  readonly forged?: boolean
}

/**
 * Whether a checkpoint must be left alone because this one, or a newer one, is forged. To go on from an older one would be what the
 * forger may want: the job would lose what it has done since, and its files would be put back. The admin decides.
 */
export function isBehindForged(checkpoint: number, failed: readonly FailedWay[]): boolean {
  return failed.some((way) => way.forged === true && way.checkpoint >= checkpoint)
}

/**
 * Where to go after every checkpoint has failed here. Elsewhere only while that can help; from the start only when that was
 * asked for, and no checkpoint is left that another try might restore. After a forged one the job is held whatever was asked for,
 * unless another node may have the key that this one lacks.
 */
export function nextWay(failed: readonly FailedWay[], otherNode: boolean, fallback: Fallback): 'elsewhere' | Fallback {
  if (failed.some((way) => way.refused === true || (way.forged === true && way.final))) return 'hold'
  const hope = failed.some((way) => !way.final)
  if (hope && otherNode) return 'elsewhere'
  return hope ? 'hold' : fallback
}

/** Signals that a program gets by its own instructions: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS. */
const crashSignals: ReadonlySet<number> = new Set([4, 5, 6, 7, 8, 11, 31])

/**
 * The signal a payload crashed by, or undefined when it ended otherwise: by exit or a signal from outside (scancel, the kernel
 * for want of memory). Shells and MPI launchers tell a child's signal N as exit code 128 + N.
 * @param waitStatus as of waitpid(2)
 */
export function crashSignal(waitStatus: number): number | undefined {
  const signal = (waitStatus & 0x7f) === 0 ? ((waitStatus >> 8) & 0xff) - 128 : waitStatus & 0x7f
  return crashSignals.has(signal) ? signal : undefined
}
