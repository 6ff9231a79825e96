import type { SlurmJob } from '../slurm/scontrol.ts'
import type { Context } from './context.ts'

/** What slurmctld said of a job this long before its task comes is still so: Prolog and task are of one allocation. */
const freshMilliseconds = 5000

/** Prolog has told that a job comes: slurmctld is asked about it beside what slurmd still has to do, not while the task waits. */
export function announce(context: Context, jobId: number): void {
  const answer = { at: Date.now(), job: context.scontrol.showJob(jobId) }
  answer.job.catch(() => undefined) // Asked again by whoever needs it.
  context.announced.set(jobId, answer)
  setTimeout(() => {
    if (context.announced.get(jobId) === answer) context.announced.delete(jobId)
  }, freshMilliseconds).unref()
}

/** The job as slurmctld has it, by the answer that Prolog brought about where there is one. @throws StintError E_SLURM */
export async function announcedJob(context: Context, jobId: number): Promise<SlurmJob> {
  const answer = context.announced.get(jobId)
  context.announced.delete(jobId)
  if (answer !== undefined && Date.now() - answer.at < freshMilliseconds) {
    const job = await answer.job.catch(() => undefined)
    if (job !== undefined) return job
  }
  return context.scontrol.showJob(jobId)
}
