import { endingOf } from '../core/ending.ts'
import { StintError } from '../core/errors.ts'
import type { SlurmJob } from './job.ts'
import type { Context, Sandbox } from '../context.ts'
import { persist } from './retry.ts'

/** A stint, as Slurm counts them. */
export interface StintOfJob {
  readonly jobId: number
  /** Of the job when this stint started. */
  readonly restarts: number
}

/**
 * Slurm ticket 23768, mended after 26.05.3: a requeue of a job that is COMPLETING gives it back the nodes that it has released
 * already, and when slurmctld signals the job again (KillWait + 2 MessageTimeout later), a released node that is DOWN makes it
 * requeue the job inside the loop over those nodes, and end by SIGSEGV. So the requeue waits until such a job has left COMPLETING,
 * which Slurm sees to by SIGKILL, or the node is back: a job that is over can be requeued as well.
 * @throws StintError E_SLURM with `waits` in its details
 */
async function assertSafeToRequeue(context: Context, job: SlurmJob): Promise<void> {
  if (job.state !== 'COMPLETING') return
  const released = await context.scontrol.releasedNodes(job.jobId)
  const down = released.length === 0 ? [] : (await context.scontrol.showNodes(released)).filter((node) => !node.up).map((node) => node.name)
  if (down.length === 0) return
  throw new StintError('E_SLURM', `${down.join(', ')} is down while Slurm ends job ${job.jobId} on ${job.nodes}: it is requeued once Slurm has ended it`, { details: { waits: true } })
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
    await assertSafeToRequeue(context, job)
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
