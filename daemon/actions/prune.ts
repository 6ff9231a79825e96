import type { Run } from '../catalogue/runs.ts'
import { asStintError } from '../core/errors.ts'
import type { Context } from './context.ts'

/** Sealed checkpoints kept per run: the newest, and one to fall back on. */
const keepNewest = 2

/** Removes checkpoints that newer ones have made superfluous; a fault here harms nobody and is only logged. */
export function pruneImages(context: Context, run: Run): void {
  try {
    const mine = context.store.list(run.job_id).filter(({ manifest }) => manifest.run === run.id && manifest.member === 0)
    for (const { manifest } of mine.slice(keepNewest)) context.store.remove({ job: manifest.job, run: manifest.run, checkpoint: manifest.checkpoint })
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: run.job_id }, 'old images could not be removed')
  }
}

/** Removes everything of a run that has ended well, or of an earlier job with the same id. */
export function removeImages(context: Context, jobId: number, runId: string): void {
  try {
    context.store.removeRun(jobId, runId)
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: jobId }, 'images could not be removed')
  }
}
