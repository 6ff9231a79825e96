import type { MemberObservation } from '../core/member.ts'
import type { Obstacle } from '../core/obstacles.ts'
import type { Context, Sandbox } from '../context.ts'
import { atAll, membersOf } from './members.ts'
import { mayResubmit } from './resubmit.ts'

/** What Slurm says against saving and requeuing; --keep-running would do. */
async function requeueObstacles(context: Context, sandbox: Sandbox): Promise<Obstacle[]> {
  const job = await context.scontrol.showJob(sandbox.run.job_id)
  if (job.requeue || mayResubmit(context, sandbox.options)) return []
  return [{ kind: 'no-requeue', message: `Slurm may not requeue job ${job.jobId}`, remedy: 'Submit without --no-requeue (site: JobRequeue=1), or save with --keep-running only.' }]
}

/**
 * What a checkpoint that ends and requeues the job would meet right now, for whoever asks.
 * @throws StintError E_SLURM
 */
export async function check(context: Context, sandbox: Sandbox): Promise<MemberObservation> {
  const found = await atAll(await membersOf(context, sandbox), (member) => member.observe())
  return {
    obstacles: [...found.flatMap((f) => f.obstacles), ...(await requeueObstacles(context, sandbox))],
    carried: found.flatMap((f) => f.carried),
    processes: found.reduce((sum, f) => sum + f.processes, 0),
    bytes: found.reduce((sum, f) => sum + f.bytes, 0),
    predictedSeconds: Math.max(...found.map((f) => f.predictedSeconds)),
  }
}
