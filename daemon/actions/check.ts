import type { Obstacle } from '../core/obstacles.ts'
import type { Context, Sandbox } from './context.ts'
import { observe, type Observation } from './observe.ts'

/** What Slurm says against saving and requeuing; --keep-running would do. */
async function requeueObstacles(context: Context, sandbox: Sandbox): Promise<Obstacle[]> {
  const job = await context.scontrol.showJob(sandbox.run.job_id)
  if (job.requeue) return []
  return [{ kind: 'no-requeue', message: `Slurm may not requeue job ${job.jobId}`, remedy: 'Submit without --no-requeue (site: JobRequeue=1), or save with --keep-running only.' }]
}

/**
 * What a checkpoint that ends and requeues the job would meet right now, for whoever asks.
 * @throws StintError E_SLURM
 */
export async function check(context: Context, sandbox: Sandbox): Promise<Observation> {
  const found = await observe(context, sandbox)
  return { ...found, obstacles: [...found.obstacles, ...(await requeueObstacles(context, sandbox))] }
}
