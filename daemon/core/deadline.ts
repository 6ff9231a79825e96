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
  /** By how much the measurements differ from it: their median absolute deviation, at least a tenth of the prediction; seconds. */
  readonly spreadSeconds: number
  /** Measurements it rests on. */
  readonly measured: number
}

/** What every checkpoint costs besides its bytes, seconds: processes, tar of /tmp, fsync of small files. Assumed while not known. */
const fixedSeconds = 0.3

/** The fixed cost is not taken to be less. */
const leastFixedSeconds = 0.03

/** A checkpoint is compared with so many of the nearest size: small ones are all fixed cost, large ones all rate. */
const neighbours = 9

/**
 * What was so many times smaller tells of the fixed cost, not of the rate: five seconds that a few megabytes of a run over many
 * nodes took would make an hour of some gigabytes.
 */
const farSmaller = 10

/** With fewer the spread is unknown, and the prediction itself stands in for it; so is the rate. */
const enough = 3

/** A few measurements that agree may do so by chance: the spread is at least this part of the prediction. */
const leastSpread = 0.1

/** So much larger must one of two checkpoints be for their difference to tell the rate. */
const farLarger = 2

/** The rate is not taken to be so many times the assumed one, whatever small differences between small checkpoints say. */
const fastest = 10

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2
}

/** What a checkpoint of a size takes: a fixed cost and a rate, by the medians of all pairs and of what is left (Theil and Sen), or the assumed ones. */
function modelOf(measured: readonly Measurement[], rules: DeadlineRules): (bytes: number) => number {
  const slopes = measured.flatMap((small) => measured
    .filter((large) => large.bytes >= small.bytes * farLarger)
    .map((large) => (large.seconds - small.seconds) / (large.bytes - small.bytes)))
  if (slopes.length < enough) return (bytes) => fixedSeconds + bytes / rules.assumedBytesPerSecond
  const secondsPerByte = Math.max(median(slopes), 1 / (fastest * rules.assumedBytesPerSecond))
  const fixed = Math.max(leastFixedSeconds, median(measured.map((one) => one.seconds - one.bytes * secondsPerByte)))
  return (bytes) => fixed + bytes * secondsPerByte
}

/** @param measured recent checkpoints of this store and node, any order */
export function predict(bytes: number, measured: readonly Measurement[], rules: DeadlineRules): Prediction {
  const tellsRate = (one: Measurement): boolean => one.bytes * farSmaller >= bytes
  const model = modelOf(measured.filter((one) => one.bytes > 0 && tellsRate(one)), rules)
  const distance = (one: Measurement): number => Math.abs(Math.log((one.bytes + 1) / (bytes + 1)))
  const nearest = measured.toSorted((a, b) => distance(a) - distance(b)).slice(0, neighbours)
  const scaled = nearest.map((one) => (tellsRate(one) ? (one.seconds / model(one.bytes)) * model(bytes) : model(bytes) + Math.max(0, one.seconds - model(one.bytes))))
  const seconds = scaled.length === 0 ? model(bytes) : median(scaled)
  const spreadSeconds = nearest.filter(tellsRate).length < enough ? seconds : Math.max(leastSpread * seconds, median(scaled.map((one) => Math.abs(one - seconds))))
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
