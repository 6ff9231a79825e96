import type { StintError } from './errors.ts'
import type { Trigger } from './states.ts'

/** What a failed save means: whether it is the reason itself, when to try again, and what the job's owner reads. */

/** At least so long between a failed save and the last one before the end, seconds. */
const leastPauseSeconds = 2

/** After the last moment at which a save should come in time, pauses begin with this and double: Slurm ends a job up to a minute after its limit, and leaves it KillWait. */
const latePauseSeconds = 5

/** Pauses grow to this, seconds. */
const longestPauseSeconds = 600

export interface FailedSaves {
  /** In a row. */
  readonly count: number
  /** The last one, seconds since 1970. */
  readonly at: number
}

/**
 * When a save before a job's end is tried again, seconds since 1970: pauses double, and one try comes at the last moment that is
 * still in time.
 * @param latest when a save must begin to be done by the end, seconds since 1970; infinite without a limit
 * @param retrySeconds the first pause
 */
export function nextTry({ count, at }: FailedSaves, latest: number, retrySeconds: number): number {
  const doubled = (first: number): number => first * 2 ** Math.min(count - 1, 30)
  const backedOff = at + Math.min(doubled(retrySeconds), Math.max(longestPauseSeconds, retrySeconds))
  if (backedOff <= latest) return backedOff
  if (at + leastPauseSeconds <= latest) return latest
  return at + Math.min(doubled(latePauseSeconds), Math.max(latePauseSeconds, retrySeconds))
}

/** Refusals that say what state the job is in just now, not what keeps it from being saved. */
const passing: ReadonlySet<string> = new Set(['E_NOT_RUNNING', 'E_BUSY', 'E_SUSPENDED'])

/**
 * Whether an error may take the place of the one on record for a run. What fails because the job ends, or is just in another state,
 * never hides why it could not be saved before; neither does what fails while Slurm is ending the job.
 * @param isEnding Slurm is ending it, or its limit is over
 */
export function replaces({ code, details }: Pick<StintError, 'code' | 'details'>, recorded: string | null, isEnding: boolean): boolean {
  if (isOfTheEnd({ details })) return false
  return recorded === null || !(passing.has(code) || isEnding)
}

/** Whether an error says only that the job has ended, or is being cancelled. */
export function isOfTheEnd({ details }: Pick<StintError, 'details'>): boolean {
  return details['over'] === true
}

/** Names a reason: process ids and sizes change from try to try. */
export function reasonKey({ code, message }: Pick<StintError, 'code' | 'message'>): string {
  return `${code} ${message.replace(/\d+/g, '#')}`
}

/** `12:00:05` in the node's zone, with the date when it is another day than `now`'s. Milliseconds since 1970. */
export function clockTime(at: number, now: number): string {
  const [day, today] = [at, now].map((instant) => new Date(instant).toLocaleDateString('sv-SE'))
  const time = new Date(at).toLocaleTimeString('sv-SE')
  return day === today ? time : `${day ?? ''} ${time}`
}

/** What is known of the job when a save has failed; times are milliseconds since 1970. */
export interface Outlook {
  readonly now: number
  /** Of its allocation; null without a limit. */
  readonly end: number | null
  /** The next automatic try of this kind. */
  readonly next: number | undefined
  /** Its newest restorable checkpoint. */
  readonly saved: { readonly number: number; readonly at: number } | undefined
}

function sentence(text: string): string {
  return `${text.trim().replace(/[.\s]+$/, '')}.`
}

/** A try that comes after the limit, in the time that Slurm takes to end a job, is no promise. */
function tryText({ now, next, end }: Outlook): string {
  return next === undefined || next <= now || (end !== null && now < end && end < next) ? '' : `; the next try is at ${clockTime(next, now)}`
}

function endText(outlook: Outlook): string {
  const { now, end } = outlook
  if (end === null) return `It ends unsaved unless a later try succeeds${tryText(outlook)}.`
  if (end <= now) return `Slurm is ending it now: it ends unsaved unless a later try succeeds${tryText(outlook)}.`
  return `It will end at ${clockTime(end, now)} unless a later try succeeds${tryText(outlook)}.`
}

function lossText({ now, saved }: Outlook): string {
  return saved === undefined ? 'what it has done since its start is lost' : `what it has done since checkpoint ${saved.number} (${clockTime(saved.at, now)}) is lost`
}

/** What a failed save means for the job, by what it was made for; undefined where whoever asked for it is told. */
const meanings: Readonly<Record<Trigger, ((outlook: Outlook) => { readonly failed: string; readonly means: string }) | undefined>> = {
  walltime: (outlook) => ({ failed: 'this job could not be saved before its time limit', means: `${endText(outlook)} Then ${lossText(outlook)}.` }),
  preemption: (outlook) => ({ failed: 'this job could not be saved before Slurm takes its nodes for another job', means: `${endText(outlook)} Then ${lossText(outlook)}.` }),
  drain: (outlook) => ({ failed: 'this node is being drained, and this job could not be saved', means: `It runs on here; if the node goes down first, ${lossText(outlook)}.` }),
  schedule: (outlook) => ({ failed: 'the periodic checkpoint could not be made', means: `The job runs on${tryText(outlook)}. If a node fails before that, ${lossText(outlook)}.` }),
  signal: () => ({ failed: 'the checkpoint that a signal asked for could not be made', means: 'The job runs on.' }),
  request: undefined,
}

/** What the job's owner reads; undefined where nothing is to be said. */
export function failureText(trigger: Trigger, { message, hint }: Pick<StintError, 'message' | 'hint'>, outlook: Outlook): string | undefined {
  const meaning = meanings[trigger]?.(outlook)
  return meaning === undefined ? undefined : `${meaning.failed}: ${sentence(message)} ${sentence(hint)} ${meaning.means}`
}
