import type { Checkpoint } from '../catalogue/checkpoints.ts'
import type { Member } from '../catalogue/members.ts'
import type { Run } from '../catalogue/runs.ts'
import { afterCrash, wordOnRecord, type AfterCrash, type Word } from '../core/after-crash.ts'
import { awaitsRequeue, cameThrough, isOpen } from '../core/checkpoint-state.ts'
import { StintError } from '../core/errors.ts'
import type { DumpOrder } from '../core/member.ts'
import { parseOptions } from '../core/options.ts'
import { numberWord, type Message } from '../core/wire.ts'
import type { ProcessStat } from '../linux/processes.ts'
import type { GuardLink } from '../member/monitor-connection.ts'
import { attach } from '../member/open.ts'
import { abortAll, endOthers } from '../run/checkpoint.ts'
import { abandonMember, closeSandbox } from '../member/close.ts'
import { type Context, type Sandbox, engineDirectory, freshSandbox, rootPid } from '../context.ts'
import { armDeadline } from '../run/walltime-watch.ts'
import { awaitDecision } from '../member/in-doubt.ts'
import { exclusively } from '../run/exclusively.ts'
import { goBackIfLost } from '../run/lost-member.ts'
import { atAllOthers, membersOf } from '../run/members.ts'
import { runSide } from '../run/run-side.ts'
import { audit, daemonItself, subjectOf } from '../images/audit.ts'
import { dropImage } from '../member/dump.ts'
import { reopen } from '../member/reopen.ts'
import { requeueInBackground } from '../run/requeue.ts'
import { markRestored, restoreAgain, resumeAll } from '../run/restore.ts'
import { findMembersAgain } from '../run/member-step.ts'
import { assertNotStopping, pause } from '../stopping.ts'

/** The checkpoint that a crash of the daemon cut short, if there is one. */
function openCheckpoint(context: Context, runId: string): Checkpoint | undefined {
  return context.catalogue.checkpoints.ofRun(runId).findLast(isOpen)
}

/** The engine as it is on record; a daemon that has died right after its start may not have come to that. */
async function engineOf(context: Context, sandbox: Sandbox, { engine_pid: pid, engine_start: startTime, phase }: Checkpoint): Promise<Pick<ProcessStat, 'pid' | 'startTime'> | undefined> {
  if (pid !== null && startTime !== null) return { pid, startTime }
  return phase === 'writing' ? (await context.kernel.enginesIn(sandbox.pid1, context.engine.name))[0] : undefined
}

/** The engine goes on without us until it meets its barrier, where it gets the word. */
async function settleEngine(context: Context, sandbox: Sandbox, checkpoint: Checkpoint, word: 'commit' | 'abort'): Promise<void> {
  const found = await engineOf(context, sandbox, checkpoint)
  if (found === undefined) return
  const { pid, startTime } = found
  const ended = async (): Promise<void> => {
    while (context.kernel.isAlive(pid, startTime)) await context.clock.sleep(50)
  }
  await context.engine.answerOrphan({ pid1: sandbox.pid1, timeoutSeconds: context.config.checkpoint.timeout_seconds, runDirectory: engineDirectory(context, sandbox.run.job_id), pid, startTime, uid: sandbox.run.uid, operation: 'dump', word, ended: ended() })
}

/** This member's half of a checkpoint, by the word that was found for it (core/after-crash.ts). */
async function settleHalf(context: Context, sandbox: Sandbox, checkpoint: Checkpoint, word: Word): Promise<AfterCrash> {
  await settleEngine(context, sandbox, checkpoint, word)
  const { catalogue } = context
  const payloadLives = context.kernel.rootAlive(sandbox.pid1, rootPid)
  const outcome = afterCrash({ word, keepRunning: checkpoint.keep_running === 1, payloadLives })
  if (outcome === 'saved') {
    if (checkpoint.decision === 'none') catalogue.checkpoints.commit(checkpoint.id)
    catalogue.members.move(sandbox.memberId, 'held', Date.now())
    audit(context, daemonItself, { action: 'save', subject: subjectOf(sandbox.run), checkpoint: checkpoint.number, detail: { trigger: checkpoint.trigger, keepRunning: false, finishedBy: 'the next daemon' } })
    return outcome
  }
  sandbox.link?.send('unhold')
  await reopen(context, sandbox)
  // On record last: until then the next daemon does all of it again.
  await dropImage(context, sandbox, checkpoint.number)
  catalogue.transaction(() => {
    catalogue.checkpoints.giveUp(checkpoint.id, 'E_INTERNAL', `the daemon ended in the middle of this checkpoint; the job ${payloadLives ? 'ran on' : 'has ended'}`)
    catalogue.members.move(sandbox.memberId, 'running', Date.now())
  })
  return outcome
}

/** What was decided is on record here, and carried out on all members. What was not is given up everywhere. */
async function recoverCheckpoint(context: Context, sandbox: Sandbox, checkpoint: Checkpoint): Promise<void> {
  const [, ...others] = await membersOf(context, sandbox)
  const order: DumpOrder = { checkpoint: checkpoint.number, trigger: checkpoint.trigger, keepRunning: checkpoint.keep_running === 1, coordinator: context.node, members: [0, ...others.map((m) => m.member)] }
  const outcome = await settleHalf(context, sandbox, checkpoint, wordOnRecord(checkpoint))
  if (outcome === 'saved') {
    await endOthers(context, others, order)
    requeueInBackground(context, sandbox, checkpoint.id)
    return
  }
  await abortAll(context, others, order, new StintError('E_INTERNAL', 'the coordinator ended in the middle of this checkpoint'))
}

/**
 * The newest checkpoint, where the job has run on after it: sealed by member 0, but its name is the last thing that it gets, and the
 * store drops what has none at the daemon's start. What has its name is told to the others, who may not have heard of it.
 */
async function recoverName(context: Context, sandbox: Sandbox, { id, number: checkpoint, trigger, keep_running: keeps, run_id: run }: Checkpoint): Promise<void> {
  if (keeps === 0) return
  const [, ...others] = await membersOf(context, sandbox)
  const order: DumpOrder = { checkpoint, trigger, keepRunning: true, coordinator: context.node, members: [0, ...others.map((m) => m.member)] }
  if (context.store.find({ job: sandbox.run.job_id, run, checkpoint, member: 0 }) !== undefined) {
    await atAllOthers(others, async (member) => member.publish(order)) // Who has heard of it says that there is none in the making.
    return
  }
  const error = new StintError('E_INTERNAL', 'the daemon ended before this checkpoint had its name; the job ran on')
  context.catalogue.checkpoints.giveUp(id, error.code, error.message)
  await abortAll(context, others, order, error)
}

/** A restore that was cut short: finished where that was decided, begun again where not. */
async function recoverRestore(context: Context, sandbox: Sandbox, member: Member): Promise<void> {
  const members = await membersOf(context, sandbox)
  if (member.resume_decided === 1 && member.restore_from !== null) {
    try {
      await exclusively(sandbox, async () => resumeAll(context, sandbox, members))
      markRestored(context, sandbox, member.restore_from, undefined)
      return
    } catch (error) {
      assertNotStopping(context, error)
      context.log.error({ err: error, job: sandbox.run.job_id }, 'a restore could not be finished; it is begun again')
    }
  }
  if (sandbox.hosts.length > 1) {
    sandbox.requeue ??= (await context.scontrol.showJobSoon(sandbox.run.job_id).catch(() => undefined))?.requeue
    if (await goBackIfLost(context, sandbox)) return
  }
  await restoreAgain(context, sandbox)
}

/** Member 0, and with it the run. */
async function recoverRun(context: Context, sandbox: Sandbox, member: Member): Promise<void> {
  if (member.state === 'restoring') {
    await recoverRestore(context, sandbox, member)
    return
  }
  const checkpoint = openCheckpoint(context, member.run_id)
  const last = context.catalogue.checkpoints.ofRun(member.run_id).at(-1)
  await exclusively(sandbox, async () => {
    if (checkpoint !== undefined) await recoverCheckpoint(context, sandbox, checkpoint)
    else if (member.state === 'running') await reopen(context, sandbox)
    if (checkpoint === undefined && last !== undefined && cameThrough(last)) await recoverName(context, sandbox, last)
  })
  armDeadline(context, sandbox)
}

/** Another member: what is under way is its coordinator's to decide, who will ask for the rest. */
async function recoverMember(context: Context, sandbox: Sandbox, member: Member): Promise<void> {
  if (member.state === 'running') await reopen(context, sandbox)
  const checkpoint = openCheckpoint(context, member.run_id)
  if (checkpoint === undefined || member.state === 'restoring') return
  const word = await awaitDecision(context, sandbox, checkpoint.number, () => context.sandboxes.get(sandbox.run.job_id) === sandbox)
  if (word !== undefined && (await settleHalf(context, sandbox, checkpoint, word)) === 'saved') sandbox.link?.send('release', { status: 0 })
}

/** Its processes are held if they are those on record. @param link to its guard, when that is alive */
function sandboxOf(context: Context, run: Run, member: Member, link: GuardLink | undefined): Sandbox {
  return {
    ...freshSandbox(), memberId: member.id, run, options: parseOptions(run.options), restarts: member.restarts, link,
    pid1: context.kernel.hold(member.pid1 ?? 0, member.pid1_start ?? undefined), guard: context.kernel.hold(member.guard_pid, member.guard_start),
    member: member.member, hosts: JSON.parse(run.hosts) as string[], nodes: JSON.parse(member.nodes) as string[],
    network: run.network === null ? undefined : (JSON.parse(run.network) as Sandbox['network']), coordinator: member.coordinator ?? undefined,
  }
}

/** A sandbox whose guard has come back. */
function foundAgain(context: Context, member: Member, link: GuardLink): Sandbox {
  const run = context.catalogue.runs.get(member.run_id)
  if (run === undefined || member.pid1 === null) throw new StintError('E_NOT_VERIFIED', `process ${link.peer.pid} is not the guard of a known sandbox`)
  const sandbox = sandboxOf(context, run, member, link)
  sandbox.askedAt = 0 // Slurm may have begun to end the job meanwhile.
  if (sandbox.network !== undefined) sandbox.post = runSide(context).relay(sandbox)
  if (sandbox.options.net === 'private') context.network.adopt(sandbox.pid1)
  return sandbox
}

/**
 * A guard has come back after a restart of the daemon.
 * @throws StintError E_NOT_VERIFIED when it is not the guard of a sandbox in the catalogue
 */
export async function attachGuard(context: Context, link: GuardLink, message: Message): Promise<void> {
  const jobId = numberWord(message, 'job') ?? 0
  const startTime = link.process.stat()?.startTime
  const member = context.catalogue.members.alive().find((m) => m.guard_pid === link.process.pid && m.guard_start === startTime)
  if (link.peer.uid !== 0 || member === undefined || context.catalogue.runs.get(member.run_id)?.job_id !== jobId) {
    throw new StintError('E_NOT_VERIFIED', `process ${link.peer.pid} is not the guard of a known sandbox`)
  }
  const known = context.sandboxes.get(jobId)
  const sandbox = known ?? foundAgain(context, member, link)
  context.sandboxes.set(jobId, sandbox)
  attach(context, sandbox, link, runSide(context))
  link.send('attached')
  if (known !== undefined) return
  void context.scontrol.showJob(jobId).then((job) => { sandbox.requeue = job.requeue }, () => undefined) // Asked again when it matters.
  context.log.info({ job: jobId, member: member.member, state: member.state }, 'sandbox found again')
  if (sandbox.coordinator === undefined) findMembersAgain(context, sandbox)
  await untilRecovered(context, sandbox)
}

/** Between two tries to go on from what the last daemon has left, seconds. */
const recoverAgainSeconds = 1

/** A fault in between leaves a run frozen, or behind a shut gate: it is tried again for as long as the sandbox stands. @throws StintError E_STOPPING */
async function untilRecovered(context: Context, sandbox: Sandbox): Promise<void> {
  for (;;) {
    try {
      const member = context.catalogue.members.require(sandbox.memberId)
      await (sandbox.coordinator === undefined ? recoverRun : recoverMember)(context, sandbox, member)
      return
    } catch (error) {
      assertNotStopping(context, error)
      if (context.sandboxes.get(sandbox.run.job_id) !== sandbox) return
      context.log.error({ err: error, job: sandbox.run.job_id }, 'a run could not be gone on with; trying again')
    }
    await pause(context, recoverAgainSeconds)
  }
}

/** A sandbox that ended while the daemon was away: closed as if seen, with what becomes of the run's images. */
export async function closeEnded(context: Context, member: Member): Promise<void> {
  const run = context.catalogue.runs.get(member.run_id)
  if (run === undefined || member.pid1 === null || member.state === 'opening') {
    abandonMember(context, member.id)
    return
  }
  const sandbox = sandboxOf(context, run, member, undefined)
  const checkpoint = openCheckpoint(context, run.id)
  const isSaved = sandbox.coordinator === undefined && checkpoint !== undefined && awaitsRequeue(checkpoint)
  // What the daemon that died had no time to write down: the sandbox has ended, and its end was decided.
  if (isSaved && member.state === 'dumping') context.catalogue.members.move(member.id, 'held', Date.now())
  context.sandboxes.set(run.job_id, sandbox)
  await closeSandbox(context, sandbox, null)
  // Slurm has ended a saved run before it had accepted its requeue: it takes that afterwards, too.
  if (isSaved) requeueInBackground(context, sandbox, checkpoint.id)
}

/** At the start: sandboxes that ended while the daemon was away are closed; the living are expected to attach. */
export function closeEndedSandboxes(context: Context): void {
  for (const member of context.catalogue.members.alive()) {
    if (context.kernel.isAlive(member.guard_pid, member.guard_start) && member.state !== 'opening') continue
    void closeEnded(context, member).catch((error: unknown) => { context.log.error({ err: error, member: member.id }, 'closing failed') })
  }
}
