/** When a run must be saved at the latest: as late as is safe, by what checkpoints took on this node and store lately. */

/** What a checkpoint takes time for besides bytes. */
export const objectKinds = ['processes', 'threads', 'files', 'mappings', 'connections', 'copies'] as const

/** How many of each; `files`: open descriptors, `copies`: files put on record because they are open for writing. */
export type Objects = Readonly<Record<typeof objectKinds[number], number>>

/**
 * Seconds that one object takes, measured on CRIU 4.2.1 with two cores: what is assumed before anything is known. What they take here,
 * all together, is learned as one factor: of six rates a few dozen checkpoints of the same few jobs tell next to nothing.
 */
const secondsPerObject: Objects = { processes: 2.2e-3, threads: 0.3e-3, files: 0.1e-3, mappings: 0.02e-3, connections: 0.11e-3, copies: 0.1e-3 }

/** Seconds that these objects would take where all take what is assumed. */
export function assumedSeconds(objects: Objects): number {
  return objectKinds.reduce((sum, kind) => sum + objects[kind] * secondsPerObject[kind], 0)
}

/** One checkpoint that was made: what the node wrote meanwhile, from its trigger to its seal. */
export interface Measurement {
  readonly bytes: number
  readonly seconds: number
  /** Of its objects by {@link assumedSeconds}; 0 where they were not counted. */
  readonly objectSeconds: number
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

/** What every checkpoint costs besides its bytes and objects, seconds: starting CRIU, tar of /tmp, fsync. Assumed while not known. */
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

/** Objects tell their factor where they should take at least this part of a checkpoint. */
const tellingPart = 0.2

/** The factor of the objects is between one over this and this, whatever a few checkpoints say. */
const largestFactor = 20

/** Keeps the distance of two checkpoints with hardly any objects small, seconds. */
const fewObjectSeconds = 0.1

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

/** The same measurements without what their objects took: what is left is told by their bytes. */
function withoutObjects(measured: readonly Measurement[], factor: number): Measurement[] {
  return measured.map((one) => ({ bytes: one.bytes, seconds: Math.max(leastFixedSeconds, one.seconds - factor * one.objectSeconds), objectSeconds: 0 }))
}

/**
 * By how much objects take longer here than assumed: the median over those checkpoints in which they should count, of what their bytes
 * leave; 1 while too few do.
 */
function factorOf(measured: readonly Measurement[], model: (bytes: number) => number): number {
  const telling = measured.filter((one) => one.objectSeconds >= tellingPart * (model(one.bytes) + one.objectSeconds))
  if (telling.length < enough) return 1
  const factor = median(telling.map((one) => (one.seconds - model(one.bytes)) / one.objectSeconds))
  return Math.min(largestFactor, Math.max(1 / largestFactor, factor))
}

/**
 * The factor of the objects. It and the rate of bytes each need the other: those in which objects cannot count for much tell the rate by
 * themselves; where there are none, the assumed rate must do.
 */
function learnFactor(measured: readonly Measurement[], rules: DeadlineRules): number {
  const plain = measured.filter((one) => one.objectSeconds * largestFactor < one.seconds)
  return factorOf(measured, modelOf(plain.length >= enough ? withoutObjects(plain, 1) : [], rules))
}

/**
 * @param objectSeconds of what is to be saved, by {@link assumedSeconds}
 * @param measured recent checkpoints of this store and node, any order
 */
export function predict(bytes: number, objectSeconds: number, measured: readonly Measurement[], rules: DeadlineRules): Prediction {
  const tellsRate = (one: Measurement): boolean => one.bytes * farSmaller >= bytes
  const counted = measured.filter((one) => one.bytes > 0)
  const factor = learnFactor(counted, rules)
  const model = modelOf(withoutObjects(counted.filter(tellsRate), factor), rules)
  const cost = (one: Pick<Measurement, 'bytes' | 'objectSeconds'>): number => model(one.bytes) + factor * one.objectSeconds
  const own = cost({ bytes, objectSeconds })
  const hasAsMany = (one: Measurement): boolean => one.objectSeconds * farSmaller >= objectSeconds || factor * objectSeconds < leastSpread * own
  const tells = (one: Measurement): boolean => tellsRate(one) && hasAsMany(one)
  const distance = (one: Measurement): number => (
    Math.abs(Math.log((one.bytes + 1) / (bytes + 1))) + Math.abs(Math.log((one.objectSeconds + fewObjectSeconds) / (objectSeconds + fewObjectSeconds)))
  )
  const nearest = measured.toSorted((a, b) => distance(a) - distance(b)).slice(0, neighbours)
  const scaled = nearest.map((one) => (tells(one) ? (one.seconds / cost(one)) * own : own + Math.max(0, one.seconds - cost(one))))
  const seconds = scaled.length === 0 ? own : median(scaled)
  const spreadSeconds = nearest.filter(tells).length < enough ? seconds : Math.max(leastSpread * seconds, median(scaled.map((one) => Math.abs(one - seconds))))
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
