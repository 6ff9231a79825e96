import { assertCheckpointsLeft } from '../core/budgets.ts'
import { endingOf, type Ending } from '../core/ending.ts'
import { asStintError } from '../core/errors.ts'
import { numberWord, word, type Message } from '../core/wire.ts'
import { closeSandbox } from '../member/close.ts'
import type { Context, Sandbox } from '../context.ts'
import { tellFailure } from './failed-save.ts'
import { restoreAgain } from './restore.ts'
import { saveBeforeEnd } from './save.ts'
import { answerEarlyEnd } from './probation.ts'
import { logFailure } from '../stopping.ts'

const SIGTERM = 15
const SIGUSR1 = 10

/**
 * A SIGTERM with which Slurm begins to end a job is answered with a checkpoint, where somebody wants the job continued; KillWait
 * is the time there is for it. One by scancel, or sent by a user, goes through.
 */
const savedAt: Partial<Record<Ending, 'preemption' | 'walltime'>> = { preempted: 'preemption', requeued: 'preemption', timeout: 'walltime' }

/** Asks Slurm once, also for signals that come meanwhile: a user may send them faster than slurmctld answers. */
async function triggerOfTerm(context: Context, sandbox: Sandbox): Promise<'preemption' | 'walltime' | undefined> {
  sandbox.termLook ??= askForTrigger(context, sandbox).finally(() => { delete sandbox.termLook })
  return sandbox.termLook
}

async function askForTrigger(context: Context, sandbox: Sandbox): Promise<'preemption' | 'walltime' | undefined> {
  const job = await context.scontrol.showJob(sandbox.run.job_id).catch(() => undefined)
  return job === undefined ? undefined : savedAt[endingOf(job, sandbox.restarts)]
}

function saveInBackground(context: Context, sandbox: Sandbox, trigger: 'preemption' | 'walltime', otherwise: () => void): void {
  void saveBeforeEnd(context, sandbox, trigger).catch((error: unknown) => {
    context.log.warn({ err: error, job: sandbox.run.job_id }, `checkpoint by ${trigger} did not succeed`)
    if (!context.stopping.aborted) otherwise() // The next daemon saves it.
  })
}

/** A doorbell that is rung while it is answered, or more often than an hour has checkpoints, changes nothing. */
function ringDoorbell(context: Context, sandbox: Sandbox): void {
  const { uid, job_id: job } = sandbox.run
  if (sandbox.ringing === true) return
  try {
    assertCheckpointsLeft(context.budgets, context.config.limits, uid, performance.now())
  } catch (error) {
    tellFailure(context, sandbox, 'signal', asStintError(error))
    return
  }
  sandbox.ringing = true
  void saveBeforeEnd(context, sandbox, 'signal').catch((error: unknown) => {
    context.log.warn({ err: error, job }, 'checkpoint by signal did not succeed')
  }).finally(() => { sandbox.ringing = false })
}

/** Whether the run is being saved to end here, or has been: no signal may reach it any more. */
function isEnding(context: Context, sandbox: Sandbox): boolean {
  const { state } = context.catalogue.members.require(sandbox.memberId)
  return state === 'held' || (state === 'dumping' && context.catalogue.checkpoints.ofRun(sandbox.run.id).at(-1)?.keep_running === 0)
}

/**
 * What becomes of a signal that Slurm has sent to the run, at whichever member. The coordinator's alone.
 * @param later delivers it after all, when saving did not succeed
 * @returns whether it is for the payload now
 */
export async function answerSignalOf(context: Context, sandbox: Sandbox, number: number, later: () => void = () => undefined): Promise<boolean> {
  if (number === SIGUSR1 && sandbox.options.signal === 'doorbell') {
    ringDoorbell(context, sandbox)
    return false
  }
  const trigger = number === SIGTERM ? await triggerOfTerm(context, sandbox) : undefined
  if (trigger === undefined) return !isEnding(context, sandbox)
  saveInBackground(context, sandbox, trigger, later)
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
  // Why it was sent, slurmctld or the coordinator must say, which may take seconds.
  if (number === SIGTERM) sandbox.link?.send('wait', { number })
  const isForPayload = sandbox.coordinator === undefined ? await answerSignalOf(context, sandbox, number, pass) : await askCoordinator(context, sandbox, number)
  if (isForPayload) pass()
  else sandbox.link?.send('drop', { number })
}

/** A line from a guard whose sandbox stands. */
export function handleMessage(context: Context, sandbox: Sandbox, message: Message): void {
  const fail = (error: unknown): void => { logFailure(context, error, sandbox.run.job_id, `message of a guard: ${message.verb}`) }
  if (message.verb === 'signal') void answerSignal(context, sandbox, message).catch(fail)
  else if (message.verb === 'ended') void answerEarlyEnd(context, sandbox, numberWord(message, 'status') ?? 0, async (crash) => restoreAgain(context, sandbox, [crash])).catch(fail)
  else if (message.verb === 'exit') void closeSandbox(context, sandbox, numberWord(message, 'status') ?? null).catch(fail)
  else if (!['held', 'unheld', 'killed'].includes(message.verb)) context.log.warn({ verb: message.verb }, 'unknown line from a guard')
}
