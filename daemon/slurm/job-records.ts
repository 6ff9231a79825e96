import type { SlurmJob } from './job.ts'
import type { Context } from '../context.ts'

/** What slurmctld said of a job this long before its task comes is still so: Prolog and task are of one allocation. */
const freshMilliseconds = 5000

/** Of a job over several nodes the daemons of the others are about to be asked. */
async function connectOthers(context: Context, { nodes }: SlurmJob): Promise<void> {
  if (nodes === '' || nodes === context.node) return
  const others = (await context.scontrol.hostNames(nodes)).filter((node) => node !== context.node)
  await Promise.all(others.map(async (node) => context.peers.connect(node)))
}

/** Prolog has told that a job comes: slurmctld is asked about it beside what slurmd still has to do, not while the task waits. */
export function announce(context: Context, jobId: number): void {
  const answer = { at: Date.now(), job: context.scontrol.showJob(jobId) }
  // Both are tried again by whoever needs them.
  answer.job.then(async (job) => connectOthers(context, job)).catch(() => undefined)
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
