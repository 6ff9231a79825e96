import { endingOf } from '../core/ending.ts'
import type { StintError } from '../core/errors.ts'
import type { Context, Sandbox } from './context.ts'
import { persist } from './persist.ts'

/** A stint, as Slurm counts them. */
export interface StintOfJob {
  readonly jobId: number
  /** Of the job when this stint started. */
  readonly restarts: number
}

export function stintOf({ run, restarts }: Sandbox): StintOfJob {
  return { jobId: run.job_id, restarts }
}

/**
 * Whether somebody has ended the job meanwhile: what is killed then has not failed, and nobody wants it continued. Not when Slurm
 * cannot be asked.
 */
export async function isCancelled(context: Context, { jobId, restarts }: StintOfJob): Promise<boolean> {
  const job = await context.scontrol.showJob(jobId).catch(() => undefined)
  return job !== undefined && endingOf(job, restarts) === 'cancelled'
}

/** What a job's comment says of a reason: `squeue -O Comment` and `scontrol show job` show it. */
function commentOf(reason: StintError): string {
  return `stint: ${reason.code}: ${reason.message}`.slice(0, 250)
}

/**
 * Ends this stint of a job and puts it back into the queue. Not where it is there already, or was cancelled: Slurm is asked
 * before every try, as a requeue that comes late would end the next stint, or continue what nobody wants.
 * @param held why only its owner or an admin shall let it go on, for its comment
 * @returns whether this put it there
 * @throws StintError E_SLURM
 */
export async function putBack(context: Context, { jobId, restarts }: StintOfJob, held?: StintError): Promise<boolean> {
  return persist(context, jobId, held === undefined ? 'requeue' : 'requeuehold', async () => {
    const ending = endingOf(await context.scontrol.showJob(jobId), restarts)
    if (ending === 'cancelled' || ending === 'requeued') return false
    await (held === undefined ? context.scontrol.requeue(jobId) : context.scontrol.requeueHold(jobId, commentOf(held)))
    return true
  })
}
