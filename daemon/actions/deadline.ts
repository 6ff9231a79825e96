import { actAt, nextLook } from '../core/deadline.ts'
import { checkpoint } from './checkpoint.ts'
import type { Context, Sandbox } from './context.ts'
import { deadlineRules, predict } from './observe.ts'

/** While the sandbox is being saved or restored there is nothing to decide. */
const busyLookSeconds = 0.5
/** slurmctld did not answer. */
const askAgainSeconds = 5
/** An admin may give a job without limit one. */
const unlimitedLookSeconds = 300

/**
 * Looks at the deadline again and again, ever closer, and saves the run when it comes. One timer per sandbox; it is
 * cleared here and in close-sandbox alone.
 */
export function armDeadline(context: Context, sandbox: Sandbox, inSeconds = 0): void {
  clearTimeout(sandbox.deadline)
  sandbox.deadline = setTimeout(() => { void look(context, sandbox) }, inSeconds * 1000).unref()
}

async function look(context: Context, sandbox: Sandbox): Promise<void> {
  const member = context.catalogue.members.require(sandbox.memberId)
  if (context.sandboxes.get(sandbox.run.job_id) !== sandbox || member.state === 'held') return
  if (sandbox.busy || member.state !== 'running') {
    armDeadline(context, sandbox, busyLookSeconds)
    return
  }
  if (member.end_time === null) {
    await learnLimit(context, sandbox)
    return
  }
  const end = member.end_time / 1000
  const predictedSeconds = await predict(context, sandbox)
  if (context.sandboxes.get(sandbox.run.job_id) !== sandbox) return
  const now = Date.now() / 1000
  const at = Math.max(actAt(end, predictedSeconds, deadlineRules(context)), sandbox.notBefore / 1000)
  sandbox.plannedAt = at * 1000
  if (now < at) {
    armDeadline(context, sandbox, nextLook(at - now))
    return
  }
  await act(context, sandbox, end)
}

/** The plugin did not know when the allocation ends: slurmctld does. A job without limit is asked about again. */
async function learnLimit(context: Context, sandbox: Sandbox): Promise<void> {
  const job = await context.scontrol.showJob(sandbox.run.job_id).catch(() => undefined)
  if (job?.endTime !== undefined) context.catalogue.members.setEndTime(sandbox.memberId, job.endTime * 1000)
  armDeadline(context, sandbox, job === undefined ? askAgainSeconds : job.endTime === undefined ? unlimitedLookSeconds : 0)
}

/** Asks Slurm once whether the limit still stands, then saves. */
async function act(context: Context, sandbox: Sandbox, end: number): Promise<void> {
  try {
    // A slurmctld that does not answer will end the job when it comes back.
    const job = await context.scontrol.showJobSoon(sandbox.run.job_id)
    if (job?.endTime !== undefined && job.endTime > end + 1) {
      context.catalogue.members.setEndTime(sandbox.memberId, job.endTime * 1000)
      armDeadline(context, sandbox)
      return
    }
    await checkpoint(context, sandbox, { trigger: 'walltime', keepRunning: false })
  } catch (error) {
    context.log.warn({ err: error, job: sandbox.run.job_id }, 'the walltime checkpoint did not succeed; trying again before the limit')
    sandbox.notBefore = Math.max(sandbox.notBefore, Date.now() + 1000)
    armDeadline(context, sandbox, 1)
  }
}
