import type { Decision } from '../core/member.ts'
import type { Context } from '../context.ts'

/** What this coordinator has decided of a checkpoint; what it does not know was never decided (presumed abort). */
export function decisionOf(context: Context, jobId: number, checkpoint: number): Decision {
  const sandbox = context.sandboxes.get(jobId)
  const run = sandbox?.run ?? context.catalogue.runs.newestOfJob(jobId)
  const row = run === undefined ? undefined : context.catalogue.checkpoints.ofRun(run.id).find((c) => c.number === checkpoint)
  if (row !== undefined && row.decision !== 'none') return row.decision
  return sandbox?.busy === true ? 'pending' : 'abort'
}
