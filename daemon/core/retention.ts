/** Which images go and which stay; all sizes in bytes. */

/** A sealed checkpoint as far as retention knows it. */
export interface KeptCheckpoint {
  readonly checkpoint: number
  /** Restarts of the job when it was made. */
  readonly restarts: number
  readonly bytes: number
}

/** The stint that is under way. */
export interface CurrentStint {
  readonly restarts: number
  /** The checkpoint it continues from; null for a first start. */
  readonly restoredFrom: number | null
}

/**
 * Checkpoints that earlier stints made after the one this stint goes on from: they could not be restored, or belong to a past
 * that this stint does not share.
 */
function isPassedOver(image: KeptCheckpoint, stint: CurrentStint): boolean {
  return stint.restoredFrom !== null && image.restarts < stint.restarts && image.checkpoint > stint.restoredFrom
}

/**
 * Numbers of the checkpoints that a new one has made superfluous.
 * @param images of one run, newest first, the new one included
 */
export function superfluous(images: readonly KeptCheckpoint[], keep: number, stint: CurrentStint): number[] {
  const inLine = images.filter((image) => !isPassedOver(image, stint))
  const kept = new Set(inLine.slice(0, Math.max(keep, 1)).map((image) => image.checkpoint))
  return images.map((image) => image.checkpoint).filter((checkpoint) => !kept.has(checkpoint))
}

/** What is in use, of what may be; a limit of 0 is none. */
export interface Quota {
  readonly name: string
  readonly used: number
  readonly limit: number
}

/**
 * Which older checkpoints of the same run must go, oldest first, so that an image of `bytes` fits; the newest stays whatever
 * happens. `exceeded` is the limit that would be passed even so.
 * @param images of the run, newest first
 */
export function makeRoom(bytes: number, images: readonly KeptCheckpoint[], quotas: readonly Quota[]): { remove: number[]; exceeded: Quota | undefined } {
  let missing = Math.max(0, ...quotas.filter((quota) => quota.limit > 0).map((quota) => quota.used + bytes - quota.limit))
  const remove: number[] = []
  for (const image of images.slice(1).toReversed()) {
    if (missing <= 0) break
    remove.push(image.checkpoint)
    missing -= image.bytes
  }
  if (missing <= 0) return { remove, exceeded: undefined }
  // Nothing is given up for a checkpoint that cannot be made anyway.
  return { remove: [], exceeded: quotas.filter((quota) => quota.limit > 0).toSorted((a, b) => (b.used - b.limit) - (a.used - a.limit))[0] }
}
