import { actAt, nextLook, type Prediction } from '../core/deadline.ts'
import { endingOf } from '../core/ending.ts'
import type { SlurmJob } from '../slurm/job.ts'
import type { Context, Sandbox } from '../context.ts'
import { besideSeconds, deadlineRules, observe, tellObstacles } from '../member/preflight.ts'
import { nextTryAt } from './failed-save.ts'
import { membersOf } from './members.ts'
import { saveNow } from './save.ts'
import { lookAtSchedule } from './periodic-watch.ts'

/** While the sandbox is being saved or restored there is nothing to decide. */
const busyLookSeconds = 0.5
/** slurmctld did not answer, or the job is suspended: its end moves. */
const askAgainSeconds = 5

/**
 * Looks at the deadline again and again, ever closer, and saves the run when it comes. One timer per sandbox; it is
 * cleared here and in close-sandbox alone.
 */
export function armDeadline(context: Context, sandbox: Sandbox, inSeconds = 0): void {
  sandbox.deadline?.[Symbol.dispose]()
  sandbox.deadline = context.clock.after(inSeconds * 1000, () => {
    look(context, sandbox).catch((error: unknown) => {
      context.log[sandbox.pid1.isAlive ? 'error' : 'debug']({ err: error, job: sandbox.run.job_id }, 'a look at the deadline failed')
      if (isHere(context, sandbox)) armDeadline(context, sandbox, askAgainSeconds)
    })
  })
}

function isHere(context: Context, sandbox: Sandbox): boolean {
  return context.sandboxes.get(sandbox.run.job_id) === sandbox
}

/** The end may have moved: an admin has set another limit, a suspended job was resumed, preemption has cut it short. */
async function ask(context: Context, sandbox: Sandbox): Promise<SlurmJob | undefined> {
  sandbox.askedAt = Date.now()
  // A slurmctld that does not answer will end the job when it comes back.
  const job = await context.scontrol.showJobSoon(sandbox.run.job_id).catch((error: unknown) => {
    context.log.warn({ err: error, job: sandbox.run.job_id }, 'slurmctld does not tell the end of the job')
    return undefined
  })
  if (job !== undefined && isHere(context, sandbox)) context.catalogue.members.setEndTime(sandbox.memberId, job.endTime === undefined ? null : job.endTime * 1000)
  return job
}

/** Slurm is asked after look_seconds again, not at once: the sandbox was opened with its answer. */
function mustAsk(context: Context, sandbox: Sandbox): boolean {
  sandbox.askedAt ??= Date.now()
  return Date.now() - sandbox.askedAt >= context.config.slurm.look_seconds * 1000
}

async function look(context: Context, sandbox: Sandbox): Promise<void> {
  const state = isHere(context, sandbox) ? context.catalogue.members.require(sandbox.memberId).state : 'ended'
  if (state === 'ended' || state === 'held') return
  if (sandbox.busy || state !== 'running') {
    armDeadline(context, sandbox, busyLookSeconds)
    return
  }
  const job = mustAsk(context, sandbox) ? await ask(context, sandbox) : undefined
  if (job !== undefined && endingOf(job, sandbox.restarts) !== 'none') {
    const pause = nextTryAt(context, sandbox) - Date.now() / 1000
    if (pause > 0) armDeadline(context, sandbox, pause)
    else await act(context, sandbox, job)
    return
  }
  const { now, at } = await plan(context, sandbox)
  if (!isHere(context, sandbox)) return
  if (now >= at) await act(context, sandbox, await ask(context, sandbox))
  else armDeadline(context, sandbox, Math.min(nextLook(at - now), lookAtSchedule(context, sandbox, at - now), context.config.slurm.look_seconds))
}

/** All members are saved at once: the slowest counts. One that does not answer now is looked at again the next time. */
async function predictRun(context: Context, sandbox: Sandbox): Promise<Prediction> {
  const own = await observe(context, sandbox)
  const others = (await membersOf(context, sandbox)).slice(1)
  const answers = await Promise.allSettled(others.map(async (member) => member.observe()))
  const found = [own, ...answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))]
  tellObstacles(sandbox, found.flatMap((one) => one.obstacles), context.catalogue.members.require(sandbox.memberId).end_time)
  return { ...own.prediction, seconds: Math.max(...found.map((one) => one.predictedSeconds)) }
}

/** Predicts, and puts on record for `stint status`, when the run will be saved and why then. Seconds since 1970; infinite without limit. */
async function plan(context: Context, sandbox: Sandbox): Promise<{ now: number; at: number }> {
  const prediction = await predictRun(context, sandbox)
  const now = Date.now() / 1000
  const { end_time: end } = context.catalogue.members.require(sandbox.memberId)
  if (end === null) {
    sandbox.plan = { prediction, besideSeconds: 0 }
    sandbox.plannedAt = undefined
    return { now, at: Infinity }
  }
  const dueWith = (beside: number): number => actAt(end / 1000, prediction, beside, deadlineRules(context))
  const beside = besideSeconds(context, sandbox, dueWith(sandbox.plan?.besideSeconds ?? 0) * 1000, end)
  sandbox.plan = { prediction, besideSeconds: beside }
  const due = dueWith(beside)
  const at = Math.max(due, nextTryAt(context, sandbox))
  sandbox.plannedAt = at * 1000
  return { now, at }
}

/** Slurm has just been asked: saves, unless its answer is that there is time. */
async function act(context: Context, sandbox: Sandbox, job: SlurmJob | undefined): Promise<void> {
  const ending = job === undefined ? 'none' : endingOf(job, sandbox.restarts)
  // Whoever cancels a job wants it ended; its end is on the way.
  if (ending === 'suspended' || ending === 'cancelled') {
    armDeadline(context, sandbox, askAgainSeconds)
    return
  }
  if (ending === 'none' && job !== undefined) {
    const { now, at } = await plan(context, sandbox)
    if (now < at) {
      armDeadline(context, sandbox)
      return
    }
  }
  try {
    await saveNow(context, sandbox, { trigger: ending === 'preempted' || ending === 'requeued' ? 'preemption' : 'walltime', keepRunning: false })
  } catch (error) {
    context.log.warn({ err: error, job: sandbox.run.job_id, ending }, 'the checkpoint before the end did not succeed; trying again')
    if (isHere(context, sandbox)) armDeadline(context, sandbox, 1)
  }
}
