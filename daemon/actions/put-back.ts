import { endingOf } from '../core/ending.ts'
import { StintError } from '../core/errors.ts'
import type { SlurmJob } from '../slurm/scontrol.ts'
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
 * Asks Slurm, once, to end this stint of a job and to put it back into the queue; not where it is there already, or was
 * cancelled, as a requeue that comes late would end the next stint, or continue what nobody wants. So what somebody ends while
 * we ask is not put back either.
 * @param job as Slurm has just told it
 * @returns which of the two it is: `requeued`, by this or before, or `cancelled`
 * @throws StintError E_SLURM
 */
export async function requeueOnce(context: Context, { jobId, restarts }: StintOfJob, job: SlurmJob, how: 'requeue' | 'requeuehold' = 'requeue'): Promise<'requeued' | 'cancelled'> {
  const ending = endingOf(job, restarts)
  if (ending === 'cancelled' || ending === 'requeued') return ending
  if (job.state !== 'RUNNING' && job.state !== 'SUSPENDED') {
    await context.scontrol.requeue(jobId, how, 'any')
    return 'requeued'
  }
  await context.scontrol.requeue(jobId, how, 'incomplete')
  const now = endingOf(await context.scontrol.showJob(jobId), restarts)
  if (now !== 'cancelled' && now !== 'requeued') throw new StintError('E_SLURM', `Slurm did not put job ${jobId} back: its stint has ended by ${now}`)
  return now
}

/**
 * Ends this stint of a job and puts it back into the queue, as requeueOnce does, with retries.
 * @param held why only its owner or an admin shall let it go on, for its comment
 * @returns whether this put it there
 * @throws StintError E_SLURM
 */
export async function putBack(context: Context, stint: StintOfJob, held?: StintError): Promise<boolean> {
  const how = held === undefined ? 'requeue' : 'requeuehold'
  return persist(context, stint.jobId, how, async () => {
    const job = await context.scontrol.showJob(stint.jobId)
    if (endingOf(job, stint.restarts) === 'requeued' || (await requeueOnce(context, stint, job, how)) === 'cancelled') return false
    if (held !== undefined) await context.scontrol.setComment(stint.jobId, commentOf(held))
    return true
  })
}
