import { cameThrough } from '../core/checkpoint-state.ts'
import { StintError } from '../core/errors.ts'
import { failureText, isOfTheEnd, nextTry, reasonKey, replaces, type Outlook } from '../core/save-failure.ts'
import type { Trigger } from '../core/states.ts'
import type { Context, Sandbox } from '../context.ts'

/** Saves before a job's end, which are tried again until it comes. */
const beforeEnd: ReadonlySet<Trigger> = new Set(['walltime', 'preemption'])

/** The payload came to its own end before it was saved, whatever that looked like from outside. */
export function justEnded({ run }: Sandbox, cause?: unknown): StintError {
  return new StintError('E_NOT_RUNNING', `job ${run.job_id} has just ended`, { cause, details: { over: true } })
}

function endOf(context: Context, sandbox: Sandbox): number | null {
  return context.catalogue.members.require(sandbox.memberId).end_time
}

/** No earlier is a save before the end tried again, seconds since 1970; 0 while none has failed. */
export function nextTryAt(context: Context, sandbox: Sandbox): number {
  const { failed } = sandbox
  if (failed === undefined || failed.count === 0) return 0
  const end = endOf(context, sandbox)
  const latest = end === null ? Infinity : end / 1000 - (sandbox.plan?.prediction.seconds ?? 0)
  return nextTry(failed, latest, context.config.checkpoint.retry_seconds)
}

function newestSaved(context: Context, sandbox: Sandbox): Outlook['saved'] {
  const row = context.catalogue.checkpoints.ofRun(sandbox.run.id).findLast(cameThrough)
  if (row !== undefined) return { number: row.number, at: row.started_at }
  const from = context.catalogue.members.require(sandbox.memberId).restore_from
  const stint = (JSON.parse(sandbox.run.history) as { checkpoint: number; endedAt: number }[]).findLast(({ checkpoint }) => checkpoint === from)
  return stint === undefined ? undefined : { number: stint.checkpoint, at: stint.endedAt }
}

/** Tells the job's owner on its standard error what kept a save from being made, what to do, and what it means: each reason once. */
export function tellFailure(context: Context, sandbox: Sandbox, trigger: Trigger, error: StintError, next?: number): void {
  const told = sandbox.failed?.told ?? new Map<string, string>()
  const key = `${trigger} ${reasonKey(error)}`
  if (told.has(key) || sandbox.link === undefined) return // Without its guard nothing reaches it: the next failure is told.
  const text = failureText(trigger, error, { now: Date.now(), end: endOf(context, sandbox), next, saved: newestSaved(context, sandbox) })
  if (text === undefined) return
  sandbox.link.send('say', { text })
  sandbox.failed = { count: 0, at: 0, ...sandbox.failed, told: new Map([...told, [key, error.message]]) }
}

/** Slurm has told of the job's end, or its limit is over: what fails now may fail because of it. */
function isEnding(end: number | null, now: number): boolean {
  return end !== null && end <= now
}

/** Puts a failed save on record, sees to the pause before the next one, and tells the job's owner. */
export function recordFailure(context: Context, sandbox: Sandbox, trigger: Trigger, error: StintError): void {
  const { catalogue, config, log } = context
  const { id, job_id: job } = sandbox.run
  const now = Date.now()
  const text = `${error.message}. ${error.hint}`
  catalogue.transaction(() => {
    catalogue.events.add(id, now, 'checkpoint-failed', { trigger, code: error.code, message: error.message, hint: error.hint })
    if (replaces(error, catalogue.runs.get(id)?.error ?? null, isEnding(endOf(context, sandbox), now))) catalogue.runs.setError(id, error.code, text)
  })
  if (isOfTheEnd(error)) {
    log.info({ job, err: error }, 'the job has ended, and was not saved')
    return
  }
  log.warn({ job, trigger, err: error, ...error.details }, 'checkpoint failed')
  sandbox.notBefore = now + config.checkpoint.retry_seconds * 1000
  if (!beforeEnd.has(trigger)) {
    tellFailure(context, sandbox, trigger, error)
    return
  }
  sandbox.failed = { told: new Map(), ...sandbox.failed, count: (sandbox.failed?.count ?? 0) + 1, at: now / 1000 }
  tellFailure(context, sandbox, trigger, error, nextTryAt(context, sandbox) * 1000)
}

/** A save has succeeded: whoever was told what stood in the way is told that it does not any more. */
export function recordSuccess(context: Context, sandbox: Sandbox): void {
  context.catalogue.runs.setError(sandbox.run.id, null, null)
  const reasons = [...new Set(sandbox.failed?.told.values())]
  delete sandbox.failed
  if (reasons.length > 0) sandbox.link?.send('say', { text: `this job is saved now; what kept it from being saved has gone: ${reasons.join('; ')}` })
}
