import type { StintError } from '../core/errors.ts'
import type { Context, Sandbox } from '../context.ts'
import { persist } from '../slurm/retry.ts'
import { putBack, stintOf } from '../slurm/job-control.ts'

/**
 * Nodes of the job's partition that it is not kept off and that are not the one it leaves; none when it asks for that very node.
 * Whether they have room, features or are up is Slurm's to find out: it says so as the reason of the pending job.
 */
export async function otherNodes(context: Context, jobId: number, leaving = context.node): Promise<string[]> {
  const job = await persist(context, jobId, 'show job', async () => context.scontrol.showJob(jobId))
  const [partition, excluded, required] = await Promise.all([
    context.scontrol.nodesOf(job.partition), context.scontrol.hostNames(job.excludedNodes), context.scontrol.hostNames(job.requiredNodes),
  ])
  if (required.includes(leaving)) return []
  return partition.filter((node) => node !== leaving && !excluded.includes(node))
}

/**
 * Puts a job back into the queue, kept off a node from now on. Held while that is written, so that it does not come back
 * before; a fault in between leaves it held, with the reason.
 */
export async function leaveNode(context: Context, sandbox: Sandbox, reason: StintError, leaving = context.node): Promise<void> {
  const { job_id: jobId } = sandbox.run
  sandbox.link?.send('say', { text: `another node is tried: ${reason.message}` })
  const excluded = await persist(context, jobId, 'show job', async () => context.scontrol.hostNames((await context.scontrol.showJob(jobId)).excludedNodes))
  if (!(await putBack(context, stintOf(sandbox), reason))) return
  await persist(context, jobId, 'excnodelist', async () => context.scontrol.excludeNodes(jobId, [...new Set([...excluded, leaving])]))
  await persist(context, jobId, 'release', async () => context.scontrol.release(jobId))
}
