import { schedule as startTask } from 'node-cron'
import { asStintError } from '../core/errors.ts'
import { cronExpression, parseEvery, withJitter, youngDaly, type Every } from '../core/schedule.ts'
import type { Context, Sandbox } from '../context.ts'
import { tellFailure } from './failed-save.ts'
import { saveInTurn } from './save.ts'

/** When cron's expression comes next after now; undefined when it never does. @throws whatever node-cron says to a bad one */
function nextByCron(expression: string): number | undefined {
  const task = startTask(expression, () => undefined)
  try {
    return task.getNextRun()?.getTime()
  } finally {
    void task.destroy()
  }
}

/** The user's choice; who chose a cron expression alone gets nothing of the site's besides. */
function chosenEvery(context: Context, sandbox: Sandbox): Every {
  const { every, cron } = sandbox.options
  return parseEvery(every !== '' ? every : cron !== '' ? 'never' : context.config.schedule.every)
}

/** What a periodic checkpoint cost this run lately, or should cost: the seconds it stops for, at most those it is written in. */
function costSeconds(context: Context, sandbox: Sandbox): number {
  const frozen = context.catalogue.checkpoints.ofRun(sandbox.run.id).findLast((c) => c.keep_running === 1 && c.phase === 'sealed')?.frozen_ms
  return frozen != null ? frozen / 1000 : (sandbox.plan?.prediction.seconds ?? 1)
}

function intervalSeconds(context: Context, sandbox: Sandbox): number | undefined {
  const every = chosenEvery(context, sandbox)
  if (every.kind === 'never') return undefined
  const { node_mtbf_hours: hours, least_seconds: least } = context.config.schedule
  const seconds = every.kind === 'interval' ? every.seconds : youngDaly(costSeconds(context, sandbox), hours * 3600)
  return Math.max(withJitter(seconds, Math.random()), least)
}

function cronDue(context: Context, sandbox: Sandbox, now: number): number | undefined {
  if (sandbox.options.cron === '') return undefined
  try {
    const next = nextByCron(cronExpression(sandbox.options.cron))
    const { least_seconds: least, jitter_seconds: jitter } = context.config.schedule
    return next === undefined ? undefined : Math.max(next + Math.random() * jitter * 1000, now + least * 1000)
  } catch (error) {
    context.log.warn({ err: error, job: sandbox.run.job_id }, 'cron expression')
    sandbox.link?.send('say', { text: `cron=${sandbox.options.cron} is no time (${asStintError(error).message}): no checkpoints by the clock` })
    return undefined
  }
}

/** The next periodic checkpoint, counted from now; undefined when there is none. */
function nextDue(context: Context, sandbox: Sandbox, now: number): number | undefined {
  const interval = intervalSeconds(context, sandbox)
  const times = [interval === undefined ? undefined : now + interval * 1000, cronDue(context, sandbox, now)].filter((time) => time !== undefined)
  return times.length === 0 ? undefined : Math.min(...times)
}

async function saveAndRunOn(context: Context, sandbox: Sandbox, waitSeconds: number): Promise<void> {
  try {
    await saveInTurn(context, sandbox, { trigger: 'schedule', keepRunning: true }, AbortSignal.any([context.stopping, context.clock.timeout(Math.ceil(waitSeconds * 1000))]))
  } catch (error) {
    context.log.warn({ err: error, job: sandbox.run.job_id }, 'periodic checkpoint not made')
    // All else is told by the checkpoint itself; this one was never begun.
    const cause = asStintError(error)
    if (cause.code === 'E_BUSY' && !sandbox.busy && !context.stopping.aborted) tellFailure(context, sandbox, 'schedule', cause)
  } finally {
    sandbox.periodic = { due: nextDue(context, sandbox, Date.now()), saving: false }
  }
}

/** No timer of Node.js goes further. */
const longestWaitSeconds = 86_400

/**
 * Makes a periodic checkpoint when one is due; called by every look at the deadline.
 * @param roomSeconds until the walltime checkpoint, which it must never delay; infinite for a job without limit
 * @returns seconds until the next one is due, infinite when there is none
 */
export function lookAtSchedule(context: Context, sandbox: Sandbox, roomSeconds: number): number {
  const now = Date.now()
  const periodic = (sandbox.periodic ??= { due: nextDue(context, sandbox, now), saving: false })
  if (periodic.due === undefined || periodic.saving) return Infinity
  if (now < Math.max(periodic.due, sandbox.notBefore)) return (Math.max(periodic.due, sandbox.notBefore) - now) / 1000
  // It writes beside the running job, and may take twice the time that one of its kind takes alone.
  const { seconds, spreadSeconds } = sandbox.plan?.prediction ?? { seconds: 0, spreadSeconds: 0 }
  const waitSeconds = Math.min(roomSeconds - 2 * seconds - context.config.deadline.safety * spreadSeconds, longestWaitSeconds)
  if (waitSeconds <= 0) {
    periodic.due = nextDue(context, sandbox, now)
    return Infinity
  }
  periodic.saving = true
  void saveAndRunOn(context, sandbox, waitSeconds)
  return Infinity
}
