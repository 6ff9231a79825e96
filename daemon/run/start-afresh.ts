import type { StintError } from '../core/errors.ts'
import type { Context, Sandbox } from '../context.ts'
import { markAfresh } from '../slurm/saved-note.ts'
import { persist } from '../slurm/retry.ts'
import { putBack, stintOf } from '../slurm/job-control.ts'
import { removeImages } from '../images/retention.ts'

/**
 * Gives a run's checkpoints up, none of which any node can restore, and puts its job back into the queue to run from the start.
 * Slurm forgets first that the job was saved: the other way round a crash in between would look like a lost store.
 */
export async function startAfresh(context: Context, sandbox: Sandbox, reason: StintError): Promise<void> {
  const { job_id: jobId, id } = sandbox.run
  await persist(context, jobId, 'admincomment', async () => markAfresh(context, await context.scontrol.showJob(jobId), reason))
  sandbox.link?.send('say', { text: `no checkpoint can be restored; the job runs from the start, as it asked for: ${reason.message}` })
  removeImages(context, jobId, id)
  context.catalogue.events.add(id, Date.now(), 'afresh', { code: reason.code, message: reason.message })
  await putBack(context, stintOf(sandbox))
}
