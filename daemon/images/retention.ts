import { StintError, asStintError } from '../core/errors.ts'
import { makeRoom, superfluous, type KeptCheckpoint } from '../core/retention.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import type { Context, Sandbox } from '../context.ts'
import { audit, daemonItself, imageHash, subjectOf } from './audit.ts'

/** Checkpoints of a run, newest first, as retention sees them: the images of all members are one. */
function checkpointsOf(images: readonly StoredImage[], run: string): KeptCheckpoint[] {
  const found = new Map<number, KeptCheckpoint>()
  for (const { manifest: { checkpoint, restarts, bytes } } of images.filter((image) => image.manifest.run === run)) {
    found.set(checkpoint, { checkpoint, restarts, bytes: bytes + (found.get(checkpoint)?.bytes ?? 0) })
  }
  return [...found.values()]
}

function removeCheckpoints(context: Context, sandbox: Sandbox, numbers: readonly number[]): void {
  const subject = subjectOf(sandbox.run)
  for (const checkpoint of numbers) {
    const image = imageHash(context, subject, checkpoint)
    context.store.remove({ job: subject.job, run: subject.run, checkpoint })
    audit(context, daemonItself, { action: 'remove', subject, checkpoint, image, detail: { reason: 'a newer checkpoint is there, or room was needed' } })
  }
}

/** Removes checkpoints that a newer one has made superfluous; a fault here harms nobody and is only logged. */
export function pruneImages(context: Context, sandbox: Sandbox): void {
  try {
    const { job_id: job, id: run } = sandbox.run
    const stint = { restarts: sandbox.restarts, restoredFrom: context.catalogue.members.require(sandbox.memberId).restore_from }
    removeCheckpoints(context, sandbox, superfluous(checkpointsOf(context.store.list(job), run), context.config.store.keep_checkpoints, stint))
    // What could not be read is no way back for a run that has a newer checkpoint. What is forged stays for whoever looks into it.
    removeCheckpoints(context, sandbox, context.store.unreadable(job).filter((image) => image.run === run && image.error.code !== 'E_IMAGE_FORGED').map((image) => image.checkpoint))
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: sandbox.run.job_id }, 'old images could not be removed')
  }
}

/**
 * Room for an image of `bytes` within store.quota_gb and store.user_quota_gb; older checkpoints of the same run are given up for it.
 * The whole store is read for that, and only where a limit is set.
 * @returns bytes that the quotas leave for it; infinite without any
 * @throws StintError E_STORE_QUOTA
 */
export function assertWithinQuota(context: Context, sandbox: Sandbox, bytes: number): number {
  const { quota_gb: all, user_quota_gb: each } = context.config.store
  if (all === 0 && each === 0) return Infinity
  const { uid, user, id: run } = sandbox.run
  const images = context.store.list()
  const sum = (some: readonly StoredImage[]): number => some.reduce((total, image) => total + image.manifest.bytes, 0)
  const quotas = [
    { name: 'the image store', used: sum(images), limit: all * 1e9 },
    { name: `the images of ${user}`, used: sum(images.filter((image) => image.manifest.uid === uid)), limit: each * 1e9 },
  ]
  const { remove, exceeded } = makeRoom(bytes, checkpointsOf(images, run), quotas)
  if (exceeded !== undefined) {
    throw new StintError('E_STORE_QUOTA', `the image needs ${Math.ceil(bytes / 1e6)} MB; of the ${exceeded.limit / 1e9} GB for ${exceeded.name} ${Math.round(exceeded.used / 1e6)} MB are in use`)
  }
  removeCheckpoints(context, sandbox, remove)
  const freed = checkpointsOf(images, run).filter(({ checkpoint }) => remove.includes(checkpoint)).reduce((total, one) => total + one.bytes, 0)
  return Math.min(...quotas.filter(({ limit }) => limit > 0).map(({ used, limit }) => limit - used)) + freed
}

/** Removes everything of a run that is of no more use to anybody, or of an earlier job with the same id. */
export function removeImages(context: Context, jobId: number, runId: string): void {
  try {
    const newest = context.store.list(jobId).find(({ manifest }) => manifest.run === runId)?.manifest
    const image = newest === undefined ? undefined : imageHash(context, { job: jobId, run: runId }, newest.checkpoint)
    context.store.removeRun(jobId, runId)
    if (newest === undefined) return
    audit(context, daemonItself, {
      action: 'remove', subject: { job: jobId, run: runId, owner: newest.uid, user: newest.user }, checkpoint: newest.checkpoint, image, detail: { reason: 'the run is over' },
    })
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: jobId }, 'images could not be removed')
  }
}

/** A run has come to its own end: its images go now, or when store.keep_finished_days have passed (images/prune.ts). */
export function dropFinished(context: Context, jobId: number, runId: string): void {
  if (context.config.store.keep_finished_days === 0) {
    removeImages(context, jobId, runId)
    return
  }
  try {
    if (context.store.list(jobId).some((image) => image.manifest.run === runId)) context.store.markFinished(jobId, runId)
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: jobId }, 'the end of a run could not be noted beside its images')
  }
}
