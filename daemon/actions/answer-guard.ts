import { numberWord, word, type Message } from '../core/wire.ts'
import { checkpoint } from './checkpoint.ts'
import { closeSandbox } from './close-sandbox.ts'
import type { Context, Sandbox } from './context.ts'
import { restoreAgain } from './restore.ts'
import { answerEarlyEnd } from './settle.ts'

const SIGTERM = 15
const SIGUSR1 = 10

/**
 * A SIGTERM by preemption or requeue is answered with a checkpoint; one by scancel or a user goes through. The state alone
 * does not tell: while processes are being ended it is COMPLETING whatever the reason. A requeue counts the restart at once.
 */
async function isRequeue(context: Context, sandbox: Sandbox): Promise<boolean> {
  const job = await context.scontrol.showJob(sandbox.run.job_id).catch(() => undefined)
  return job !== undefined && (job.preemptTime !== undefined || job.state === 'PREEMPTED' || job.restarts > sandbox.restarts)
}

function saveInBackground(context: Context, sandbox: Sandbox, trigger: 'signal' | 'preemption', otherwise: () => void): void {
  void checkpoint(context, sandbox, { trigger, keepRunning: false }).catch((error: unknown) => {
    context.log.warn({ err: error, job: sandbox.run.job_id }, `checkpoint by ${trigger} did not succeed`)
    otherwise()
  })
}

/**
 * What becomes of a signal that Slurm has sent to the run, at whichever member. The coordinator's alone.
 * @param later delivers it after all, when saving did not succeed
 * @returns whether it is for the payload now
 */
export async function answerSignalOf(context: Context, sandbox: Sandbox, number: number, later: () => void = () => undefined): Promise<boolean> {
  const { state } = context.catalogue.members.require(sandbox.memberId)
  if (state === 'dumping' || state === 'held') return false
  if (number === SIGUSR1 && sandbox.options.signal === 'doorbell') {
    saveInBackground(context, sandbox, 'signal', () => undefined)
    return false
  }
  if (number !== SIGTERM || !(await isRequeue(context, sandbox))) return true
  saveInBackground(context, sandbox, 'preemption', later)
  return false
}

/** A member of a run that is decided elsewhere: once it is saved, whatever ends its step is welcome. */
async function askCoordinator(context: Context, sandbox: Sandbox, number: number): Promise<boolean> {
  const { state } = context.catalogue.members.require(sandbox.memberId)
  if (state === 'held') sandbox.link?.send('release', { status: 0 })
  if (state === 'dumping' || state === 'held') return false
  return context.cluster.coordinator(sandbox.run.job_id, sandbox.coordinator ?? '').signal(sandbox.member, number)
}

async function answerSignal(context: Context, sandbox: Sandbox, message: Message): Promise<void> {
  const number = numberWord(message, 'number') ?? 0
  const scope = word(message, 'scope') ?? 'task'
  const pass = (): void => { sandbox.link?.send('pass', { number, scope }) }
  const isForPayload = sandbox.coordinator === undefined ? await answerSignalOf(context, sandbox, number, pass) : await askCoordinator(context, sandbox, number)
  if (isForPayload) pass()
  else sandbox.link?.send('drop', { number })
}

/** A line from a guard whose sandbox stands. */
export function handleMessage(context: Context, sandbox: Sandbox, message: Message): void {
  const fail = (error: unknown): void => { context.log.error({ err: error, verb: message.verb }, 'message of a guard') }
  if (message.verb === 'signal') void answerSignal(context, sandbox, message).catch(fail)
  else if (message.verb === 'ended') void answerEarlyEnd(context, sandbox, numberWord(message, 'status') ?? 0, async (crash) => restoreAgain(context, sandbox, [crash])).catch(fail)
  else if (message.verb === 'exit') void closeSandbox(context, sandbox, numberWord(message, 'status') ?? null).catch(fail)
  else if (!['held', 'unheld', 'killed'].includes(message.verb)) context.log.warn({ verb: message.verb }, 'unknown line from a guard')
}
