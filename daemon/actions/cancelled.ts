import { endingOf } from '../core/ending.ts'
import type { Context } from './context.ts'

/**
 * Whether somebody has ended the job meanwhile: what is killed then has not failed, and nobody wants it continued. Not when Slurm
 * cannot be asked.
 * @param restarts those of the stint that is meant
 */
export async function isCancelled(context: Context, jobId: number, restarts: number): Promise<boolean> {
  const job = await context.scontrol.showJob(jobId).catch(() => undefined)
  return job !== undefined && endingOf(job, restarts) === 'cancelled'
}
