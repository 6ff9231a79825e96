/** When a run must be saved at the latest: as late as is safe, by what checkpoints took on this node and store lately. */

/** One checkpoint that was made: what the node wrote meanwhile, from its trigger to its seal. */
export interface Measurement {
  readonly bytes: number
  readonly seconds: number
}

export interface DeadlineRules {
  /** Factor on the spread. */
  readonly safety: number
  /** Kept free in any case. */
  readonly marginSeconds: number
  /** Rate assumed while nothing was measured on this store, bytes per second. */
  readonly assumedBytesPerSecond: number
}

export interface Prediction {
  readonly bytes: number
  /** The median of what was measured, scaled to these bytes. */
  readonly seconds: number
  /** By how much the measurements differ from it: their median absolute deviation, seconds. */
  readonly spreadSeconds: number
  /** Measurements it rests on. */
  readonly measured: number
}

/** What every checkpoint costs besides its bytes, seconds: processes, tar of /tmp, fsync of small files. */
const fixedSeconds = 0.3

/** A checkpoint is compared with so many of the nearest size: small ones are all fixed cost, large ones all rate. */
const neighbours = 9

/**
 * What was so many times smaller tells of the fixed cost, not of the rate: five seconds that a few megabytes of a run over many
 * nodes took would make an hour of some gigabytes.
 */
const farSmaller = 10

/** With fewer the spread is unknown; the prediction itself stands in for it. */
const enough = 3

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2
}

/** @param measured recent checkpoints of this store and node, any order */
export function predict(bytes: number, measured: readonly Measurement[], rules: DeadlineRules): Prediction {
  const model = (size: number): number => fixedSeconds + size / rules.assumedBytesPerSecond
  const distance = (one: Measurement): number => Math.abs(Math.log((one.bytes + 1) / (bytes + 1)))
  const nearest = measured.toSorted((a, b) => distance(a) - distance(b)).slice(0, neighbours)
  const tellsRate = (one: Measurement): boolean => one.bytes * farSmaller >= bytes
  const scaled = nearest.map((one) => (tellsRate(one) ? (one.seconds / model(one.bytes)) * model(bytes) : model(bytes) + Math.max(0, one.seconds - model(one.bytes))))
  const seconds = scaled.length === 0 ? model(bytes) : median(scaled)
  const spreadSeconds = nearest.filter(tellsRate).length < enough ? seconds : median(scaled.map((one) => Math.abs(one - seconds)))
  return { bytes, seconds, spreadSeconds, measured: scaled.length }
}

/**
 * The instant to act, in the unit and epoch of `end` (seconds since 1970).
 * @param besideSeconds what other runs of this node need that must be saved at the same time
 */
export function actAt(end: number, prediction: Prediction, besideSeconds: number, rules: DeadlineRules): number {
  return end - (prediction.seconds + besideSeconds + prediction.spreadSeconds * rules.safety + rules.marginSeconds)
}

/** Seconds until the prediction is worth another look: half the way, between 0.2 and 30. */
export function nextLook(secondsLeft: number): number {
  return Math.min(30, Math.max(0.2, secondsLeft / 2))
}
