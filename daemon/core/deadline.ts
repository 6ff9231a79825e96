/** When a run must be saved at the latest: `end - (predicted seconds x safety + margin)`. */

export interface DeadlineRules {
  readonly safety: number
  readonly marginSeconds: number
  /** Rate assumed while nothing was measured on this store, bytes per second. */
  readonly assumedBytesPerSecond: number
}

/** What every checkpoint costs besides its bytes, seconds: processes, tar of /tmp, fsync of small files. */
const fixedSeconds = 0.5

/**
 * Seconds a checkpoint of `bytes` will take.
 * @param measured recent rates of this store and node, bytes per second, any order; their lower quartile is used,
 *   so that one fast run out of the page cache does not make the next one late
 */
export function predictSeconds(bytes: number, measured: readonly number[], rules: DeadlineRules): number {
  const sorted = measured.toSorted((a, b) => a - b)
  const rate = sorted[Math.floor(sorted.length / 4)] ?? rules.assumedBytesPerSecond
  return fixedSeconds + bytes / rate
}

/** The instant to act, in the unit and epoch of `end` (seconds since 1970). */
export function actAt(end: number, predictedSeconds: number, rules: DeadlineRules): number {
  return end - (predictedSeconds * rules.safety + rules.marginSeconds)
}

/** Seconds until the prediction is worth another look: half the way, between 0.2 and 30. */
export function nextLook(secondsLeft: number): number {
  return Math.min(30, Math.max(0.2, secondsLeft / 2))
}
