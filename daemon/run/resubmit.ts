import { StintError } from '../core/errors.ts'
import type { RunOptions } from '../core/options.ts'
import { optionsLike } from '../core/sbatch-options.ts'
import type { Context, Sandbox } from '../context.ts'
import { markSaved } from '../slurm/saved-note.ts'
import { keepHere } from '../images/locality.ts'

/** Whether a job that Slurm may not requeue goes on as a new one: its owner asks for it, and the site allows it. */
export function mayResubmit(context: Context, options: RunOptions): boolean {
  return options.continue === 'submit' && context.config.slurm.resubmit === 'asked'
}

/** The job that an earlier try made, before this daemon or its call ended. */
function submittedBefore(context: Context, sandbox: Sandbox): number | undefined {
  const last = context.catalogue.events.ofRun(sandbox.run.id).findLast((event) => event.kind === 'resubmitted' && event.detail['from'] === sandbox.run.job_id)
  return last === undefined ? undefined : Number(last.detail['job'])
}

async function submit(context: Context, sandbox: Sandbox): Promise<number> {
  const { run } = sandbox
  const [text, script] = await Promise.all([context.scontrol.showText(run.job_id), context.scontrol.batchScript(run.job_id)])
  const stint = run.options === '' ? '--stint' : `--stint=${run.options}`
  const job = await context.sbatch.submitHeld(run, [...optionsLike(text), stint, `--comment=stint: continues job ${run.job_id}`], script)
  context.catalogue.events.add(run.id, Date.now(), 'resubmitted', { from: run.job_id, job })
  return job
}

/**
 * Submits a saved job anew, as its owner, and hands its images over. The new job is held until they are there and Slurm has noted,
 * where only root can, that it was saved: a job is taken for the heir of another by that note and the image's owner, never by
 * anything that its submitter could write. Each step may be done again after a crash.
 * @returns the new job's id
 * @throws StintError E_SLURM, E_NOT_VERIFIED, E_STORE_*
 */
export async function resubmit(context: Context, sandbox: Sandbox, checkpoint: number): Promise<number> {
  const { job_id: old, id, uid } = sandbox.run
  const job = submittedBefore(context, sandbox) ?? (await submit(context, sandbox))
  const found = await context.scontrol.showJob(job)
  if (found.uid !== uid) throw new StintError('E_NOT_VERIFIED', `job ${job} belongs to uid ${found.uid}, not to the owner of job ${old}`)
  await markSaved(context, found, checkpoint)
  context.store.handOver(old, id, job)
  await keepHere(context, job)
  await context.scontrol.release(job)
  return job
}
