import { asStintError } from '../core/errors.ts'
import type { Context } from './context.ts'
import { removeImages } from './prune.ts'

const dayMilliseconds = 86_400_000
/** Slurm's states of a job that will not start again. */
const overStates = new Set(['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'BOOT_FAIL', 'DEADLINE'])

/** Whether a job can no longer be continued, by Slurm's word alone: while slurmctld does not answer everything is kept. */
async function isOver(context: Context, jobId: number): Promise<boolean> {
  const job = await context.scontrol.findJob(jobId)
  return job === undefined || overStates.has(job.state)
}

/**
 * Removes the images of runs whose job is over and whose newest image is older than store.keep_days. Every node may do it:
 * what another one has removed is not missed.
 */
export async function reclaimImages(context: Context): Promise<void> {
  const before = Date.now() - context.config.store.keep_days * dayMilliseconds
  // The store lists newest first, so the last to be set is a run's newest.
  const newest = new Map(context.store.list().toReversed().map(({ manifest }) => [manifest.run, manifest]))
  for (const { job, run, createdAt } of newest.values()) {
    if (createdAt > before || !(await isOver(context, job))) continue
    removeImages(context, job, run)
    context.log.info({ job, run }, 'images of a job that is over were reclaimed')
  }
}

/** For the schedule: a fault here harms nobody and is tried again. */
export async function reclaimQuietly(context: Context): Promise<void> {
  await reclaimImages(context).catch((error: unknown) => { context.log.warn({ err: asStintError(error) }, 'old images could not be reclaimed') })
}
