import type { StintError } from '../core/errors.ts'
import type { SlurmJob } from './job.ts'
import type { Context } from '../context.ts'

const prefix = 'stint: saved as checkpoint '

/**
 * Notes in Slurm that a job has a checkpoint: a node that cannot see the store must not take a saved job for a new one.
 * A site's own note is left alone; such a job is not told apart then.
 * @throws StintError E_SLURM
 */
export async function markSaved(context: Context, job: SlurmJob, checkpoint: number): Promise<void> {
  if (job.adminComment !== '' && !job.adminComment.startsWith('stint: ')) return
  await context.scontrol.setAdminComment(job.jobId, `${prefix}${checkpoint}`)
}

/** Whether this job was saved before, by Slurm's own memory. */
export function isMarkedSaved(job: SlurmJob): boolean {
  return job.adminComment.startsWith(prefix)
}

/** Takes the note back: none of the job's checkpoints can be restored, and it may run from the start. @throws StintError E_SLURM */
export async function markAfresh(context: Context, job: SlurmJob, reason: StintError): Promise<void> {
  if (isMarkedSaved(job)) await context.scontrol.setAdminComment(job.jobId, `stint: runs from the start: ${reason.code}`)
}
