import { endingOf } from '../core/ending.ts'
import { asStintError } from '../core/errors.ts'
import type { Context, Sandbox } from '../context.ts'
import { markSaved } from '../slurm/saved-note.ts'
import { keepHere } from '../images/locality.ts'
import { requeueOnce, stintOf } from '../slurm/job-control.ts'
import { mayResubmit, resubmit } from './resubmit.ts'
import { audit, daemonItself, subjectOf } from '../images/audit.ts'
import { dropFinished } from '../images/retention.ts'
import { assertNotStopping, logFailure, pause } from '../stopping.ts'

/** Exit code of a job that goes on as another (EX_TEMPFAIL of sysexits.h): no `afterok` of it may start. */
const resubmittedExit = 75

/** Accepted: the sandbox may end. */
function finish(context: Context, sandbox: Sandbox, checkpointId: number, next: string, status: number): void {
  context.catalogue.transaction(() => {
    context.catalogue.checkpoints.setRequeued(checkpointId)
    context.catalogue.runs.setError(sandbox.run.id, null, null) // Of earlier tries.
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'requeued', { node: context.node })
  })
  sandbox.link?.send('say', { text: `requeued; the job ${next}` })
  sandbox.link?.send('release', { status })
  context.log.info({ job: sandbox.run.job_id, next }, 'requeued')
}

/** Nobody wants it continued. */
function leaveCancelled(context: Context, sandbox: Sandbox): void {
  const { id, job_id: job } = sandbox.run
  context.catalogue.transaction(() => {
    context.catalogue.runs.end(id, Date.now(), null)
    context.catalogue.runs.setError(id, null, null)
    context.catalogue.events.add(id, Date.now(), 'cancelled', {})
  })
  audit(context, daemonItself, { action: 'cancel', subject: subjectOf(sandbox.run), detail: { reason: 'the job was cancelled in Slurm while it was saved' } })
  dropFinished(context, job, id)
  sandbox.link?.send('release', { status: 0 })
}

/**
 * Requeues a saved run. Until Slurm has accepted it the sandbox holds, or Slurm would record the job as finished.
 * Not asked for where Slurm has done it already: by preemption, or an admin's requeue. A job that is preempted under
 * PreemptMode=CANCEL, or over its limit, is requeued in the midst of its end: Slurm allows that as for any ended job.
 * @throws StintError E_STOPPING; the next daemon goes on from the catalogue
 */
async function requeue(context: Context, sandbox: Sandbox, checkpointId: number): Promise<void> {
  const jobId = sandbox.run.job_id
  for (;;) {
    try {
      const job = await context.scontrol.showJob(jobId)
      const ending = endingOf(job, sandbox.restarts)
      if (ending === 'cancelled') {
        leaveCancelled(context, sandbox)
        return
      }
      const { number } = context.catalogue.checkpoints.require(checkpointId)
      if (!job.requeue && mayResubmit(context, sandbox.options)) {
        const heir = await resubmit(context, sandbox, number)
        finish(context, sandbox, checkpointId, `continues as job ${heir}`, resubmittedExit)
        return
      }
      // Slurm takes no notes on a job that is over, or being ended; in the queue again it does.
      const isOver = ending !== 'requeued' && job.state !== 'RUNNING'
      if (!isOver) await markSaved(context, job, number)
      if ((await requeueOnce(context, stintOf(sandbox), job)) === 'cancelled') {
        leaveCancelled(context, sandbox)
        return
      }
      if (isOver) await markSaved(context, job, number)
      await keepHere(context, jobId)
      finish(context, sandbox, checkpointId, 'continues from its checkpoint in its next allocation', 0)
      return
    } catch (error) {
      assertNotStopping(context, error)
      context.log.warn({ job: jobId, err: error }, 'requeue was not accepted; trying again')
      context.catalogue.runs.setError(sandbox.run.id, 'E_SLURM', asStintError(error).message)
    }
    await pause(context, context.config.slurm.requeue_retry_seconds)
  }
}

/** The same, with nobody who waits for it. */
export function requeueInBackground(context: Context, sandbox: Sandbox, checkpointId: number): void {
  requeue(context, sandbox, checkpointId).catch((error: unknown) => { logFailure(context, error, sandbox.run.job_id, 'requeue ended') })
}
