import type { Checkpoint } from '../catalogue/checkpoints.ts'
import { mayPass } from '../core/blockers.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { emptyBook } from '../core/launch-book.ts'
import type { DumpOrder, MemberObservation, MemberPort, RunCut } from '../core/member.ts'
import type { Trigger } from '../core/states.ts'
import { type Context, type Sandbox, rootPid } from '../context.ts'
import { exclusively } from './exclusively.ts'
import { justEnded, recordFailure, recordSuccess } from './failed-save.ts'
import { launchBook } from './launches.ts'
import { assertWhole } from './lost-member.ts'
import { atAll, atAllOthers, membersOf } from './members.ts'
import { assertNoObstacles, assertNotSuspended } from '../member/preflight.ts'
import { markSaved } from '../slurm/saved-note.ts'
import { rehearseAll } from './rehearsal.ts'
import { requeueInBackground } from './requeue.ts'
import { mayResubmit } from './resubmit.ts'
import { actorOf, audit, subjectOf, type Actor } from '../images/audit.ts'
import { assertWithinQuota, pruneImages } from '../images/retention.ts'
import { watchEnd } from './probation.ts'
import { assertNotStopping } from '../stopping.ts'

export interface CheckpointOptions {
  readonly trigger: Trigger
  readonly keepRunning: boolean
  /** Who asked for it; undefined where the trigger says it. */
  readonly by?: Actor
}

/** One checkpoint in the making, as its coordinator has it. */
interface Attempt {
  readonly order: DumpOrder
  /** Member 0 first. */
  readonly members: readonly MemberPort[]
  readonly startedAt: number
}

/**
 * While slurmctld does not answer its last word stands: the sandbox holds until the requeue is accepted.
 * @throws StintError E_NOT_REQUEUABLE, E_NOT_RUNNING when saving and ending the job would lose it
 */
async function assertRequeuable(context: Context, sandbox: Sandbox): Promise<void> {
  const { job_id: jobId } = sandbox.run
  const job = sandbox.requeue === true ? await context.scontrol.showJobSoon(jobId) : await context.scontrol.showJob(jobId)
  if (job === undefined) {
    context.log.warn({ job: jobId }, 'slurmctld does not answer; the job is saved and held until it does')
    return
  }
  sandbox.requeue = job.requeue
  if (!job.requeue && !mayResubmit(context, sandbox.options)) throw new StintError('E_NOT_REQUEUABLE', `Slurm may not requeue job ${job.jobId}`)
  if (job.state === 'CANCELLED') throw new StintError('E_NOT_RUNNING', `job ${job.jobId} is being cancelled`, { details: { over: true } })
}

/** How long a save waits for what may be over in a moment, and between two looks, milliseconds. */
const passing = { longest: 3000, pause: 100 }

/** A connection that is about to be accepted, or a program that is being started, is no reason to refuse: looks again for a moment. */
async function observeAll(context: Context, members: readonly MemberPort[]): Promise<MemberObservation[]> {
  const end = Date.now() + passing.longest
  for (;;) {
    const observations = await atAll(members, (member) => member.observe())
    if (!mayPass(observations.flatMap((one) => one.obstacles)) || Date.now() > end) return observations
    await context.clock.sleep(passing.pause)
  }
}

/** The preflight on all members; nothing is changed yet. */
async function begin(context: Context, sandbox: Sandbox, options: CheckpointOptions): Promise<Attempt> {
  const startedAt = Date.now()
  assertNotSuspended(context, sandbox)
  assertWhole(sandbox)
  const requeuable = options.keepRunning ? Promise.resolve() : assertRequeuable(context, sandbox)
  requeuable.catch(() => undefined) // Awaited below; an obstacle found first must not leave it unhandled.
  const members = await membersOf(context, sandbox)
  const observations = await observeAll(context, members)
  const obstacles = observations.flatMap((o) => o.obstacles)
  assertNoObstacles(obstacles)
  const bytes = observations.reduce((sum, o) => sum + o.bytes, 0)
  const left = Math.min(assertWithinQuota(context, sandbox, bytes), context.store.assertUsable(bytes))
  const room = observations.map((one) => one.bytes + Math.floor(Math.max(0, left - bytes) / observations.length))
  await requeuable
  const { catalogue, store } = context
  const number = Math.max(catalogue.checkpoints.highestNumber(sandbox.run.id), store.highestNumber(sandbox.run.job_id, sandbox.run.id)) + 1
  const order = { checkpoint: number, trigger: options.trigger, keepRunning: options.keepRunning, coordinator: context.node, members: members.map((m) => m.member), room }
  catalogue.events.add(sandbox.run.id, startedAt, 'checkpoint', { checkpoint: number, trigger: options.trigger, keepRunning: options.keepRunning, bytes, members: members.length, planned: sandbox.plan })
  return { order, members, startedAt }
}

/** This coordinator's own row of the checkpoint; member 0 makes it when it is quiet. */
function rowOf(context: Context, sandbox: Sandbox, { order }: Attempt): Checkpoint {
  const row = context.catalogue.checkpoints.ofRun(sandbox.run.id).find((c) => c.number === order.checkpoint)
  if (row === undefined) throw new StintError('E_INTERNAL', `checkpoint ${order.checkpoint} is not in the catalogue`)
  return row
}

/** All members frozen at their barriers, all written. */
async function prepare(context: Context, sandbox: Sandbox, { order, members, startedAt }: Attempt): Promise<RunCut> {
  await atAll(members, (member) => member.quiesce(order))
  const launches = launchBook(context, sandbox)
  const quietAt = Date.now()
  const reports = await atAll(members, (member) => member.dump(order))
  await atAll(members, (member) => member.record(order))
  const slowestMs = Math.max(...reports.map((r) => r.dumpMs))
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'prepared', { checkpoint: order.checkpoint, members: members.length, quietMs: quietAt - startedAt, preparedMs: Date.now() - startedAt, slowestDumpMs: Math.round(slowestMs) })
  await rehearseAll(context, sandbox, members, order)
  return { launches, startedAt, bytes: reports.reduce((sum, r) => sum + r.bytes, 0) }
}

/** Seals every part, then gives the whole its name: from here on it can be restored. */
async function sealAll(context: Context, sandbox: Sandbox, attempt: Attempt, cut: RunCut): Promise<void> {
  const { members, order } = attempt
  // The launch book is member 0's.
  const reports = await atAll(members, (member) => member.seal(order, member.member === 0 ? cut : { ...cut, launches: emptyBook }))
  for (const member of members) await member.publish(order)
  const bytes = reports.reduce((sum, r) => sum + r.bytes, 0)
  const seconds = (Date.now() - attempt.startedAt) / 1000
  context.catalogue.transaction(() => {
    const { id } = rowOf(context, sandbox, attempt)
    context.catalogue.checkpoints.setTimes(id, { seconds })
    reports.forEach(({ path, bytes: size }, at) => { context.catalogue.images.put({ checkpoint_id: id, member: order.members[at] ?? 0, path, bytes: size }) })
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'sealed', { checkpoint: order.checkpoint, bytes, seconds })
  })
  sandbox.link?.send('say', { text: `saved by ${order.trigger} as checkpoint ${order.checkpoint} on ${members.map((m) => m.node).join(', ')}: ${(bytes / 1e6).toFixed(1)} MB in ${seconds.toFixed(2)} s` })
}

/**
 * Seal, then let the payload end: from here on the run lives in the image. The decision is on record before anyone is told,
 * and member 0 ends first: while it has not, nobody has, and all can still go on.
 */
async function saveAndEnd(context: Context, sandbox: Sandbox, attempt: Attempt, cut: RunCut): Promise<void> {
  const { members: [own, ...others], order } = attempt
  await sealAll(context, sandbox, attempt, cut)
  context.fault('sealed')
  context.catalogue.checkpoints.commit(rowOf(context, sandbox, attempt).id)
  context.fault('decided')
  await own?.commit(order)
  context.fault('committed')
  await endOthers(context, others, order)
}

/** The run is saved and its member 0 has ended: who cannot be told now is ended by Slurm with the requeue. */
export async function endOthers(context: Context, others: readonly MemberPort[], order: DumpOrder): Promise<void> {
  const failures = await atAllOthers(others, (member) => member.commit(order))
  for (const { member, error } of failures) context.log.warn({ err: error, member: member.member, node: member.node }, 'a member was not told of its end')
}

/** Let the payload go on at once, seal while it runs. */
async function saveAndKeep(context: Context, sandbox: Sandbox, attempt: Attempt, cut: RunCut): Promise<void> {
  context.catalogue.checkpoints.commit(rowOf(context, sandbox, attempt).id)
  context.fault('decided')
  await atAll(attempt.members, (member) => member.commit(attempt.order))
  await sealAll(context, sandbox, attempt, cut)
  watchEnd(context, sandbox)
  await context.scontrol.showJob(sandbox.run.job_id).then((job) => markSaved(context, job, attempt.order.checkpoint)).catch((error: unknown) => { context.log.warn({ err: error, job: sandbox.run.job_id }, 'Slurm has no note of this checkpoint') })
}

/** Every member goes on; who cannot be told keeps asking for the decision by itself. */
export async function abortAll(context: Context, members: readonly MemberPort[], order: DumpOrder, error: StintError): Promise<void> {
  const failures = await atAllOthers(members, (member) => member.abort(order, { code: error.code, message: error.message }))
  for (const { member, error: cause } of failures) context.log.warn({ err: cause, member: member.member, node: member.node }, 'a member was not told to go on')
}

async function make(context: Context, sandbox: Sandbox, attempt: Attempt): Promise<void> {
  const { order } = attempt
  try {
    const cut = await prepare(context, sandbox, attempt)
    await (order.keepRunning ? saveAndKeep : saveAndEnd)(context, sandbox, attempt, cut)
  } catch (error) {
    assertNotStopping(context, error)
    const decided = context.catalogue.checkpoints.ofRun(sandbox.run.id).some((c) => c.number === order.checkpoint && c.decision === 'commit')
    const isGone = !context.kernel.rootAlive(sandbox.pid1, rootPid)
    // The payload is gone although the commit was not clean: the published image is the run now, go on to the requeue.
    if (decided && isGone && !order.keepRunning) {
      await endOthers(context, attempt.members.slice(1), order)
      return
    }
    const reason = isGone && !decided ? justEnded(sandbox, error) : asStintError(error)
    await abortAll(context, attempt.members, order, reason)
    throw reason
  }
}

/** What a payload leaves behind for a moment when it ends says nothing about why it cannot be saved. */
function hasEnded(context: Context, sandbox: Sandbox): boolean {
  return context.catalogue.members.require(sandbox.memberId).state === 'running' && !context.kernel.rootAlive(sandbox.pid1, rootPid)
}

/** Dumps in all, where each met what is over in a moment (a connection about to be accepted). */
const dumpTries = 4

/**
 * Saves, again where a dump met what is over in a moment: the job has run on meanwhile.
 * @param touched called once the payload is dealt with; what is refused before that leaves it alone
 */
async function makeAttempt(context: Context, sandbox: Sandbox, options: CheckpointOptions, touched: () => void): Promise<Attempt> {
  for (let left = dumpTries - 1; ; left--) {
    const attempt = await begin(context, sandbox, options).catch((error: unknown) => { throw hasEnded(context, sandbox) ? justEnded(sandbox, error) : error })
    touched()
    try {
      await make(context, sandbox, attempt)
      return attempt
    } catch (cause) {
      const error = asStintError(cause)
      if (left === 0 || error.code !== 'E_CRIU_DUMP_FAILED' || error.details['passing'] !== true) throw error
      context.log.info({ job: sandbox.run.job_id, err: error }, 'a dump met what is over in a moment; trying again')
    }
    await context.clock.sleep(passing.pause)
  }
}

/** For whoever waits for the answer: true when it is given, so it is not put on record. */
function runsOn(error: StintError): StintError {
  return new StintError(error.code, error.message, { cause: error, hint: `${error.hint} The job runs on.`, details: { ...error.details } })
}

/**
 * Saves a run as it stands, on all its members at once. With keepRunning it goes on; otherwise it ends here and is requeued
 * (this returns once the image is sealed and the payload ended; the requeue goes on by itself). The coordinator's alone.
 * @throws StintError with the run undisturbed: E_BUSY, E_NOT_RUNNING, E_PREFLIGHT, E_NOT_REQUEUABLE, E_STORE_*, E_CRIU_DUMP_FAILED, E_PEER
 */
export async function checkpoint(context: Context, sandbox: Sandbox, options: CheckpointOptions): Promise<Checkpoint> {
  return exclusively(sandbox, async () => {
    const payload = { isTouched: false }
    const by = options.by ?? actorOf(options.trigger)
    const deed = { action: 'save', subject: subjectOf(sandbox.run), detail: { trigger: options.trigger, keepRunning: options.keepRunning } } as const
    try {
      const attempt = await makeAttempt(context, sandbox, options, () => { payload.isTouched = true })
      recordSuccess(context, sandbox)
      pruneImages(context, sandbox)
      const row = rowOf(context, sandbox, attempt)
      audit(context, by, { ...deed, checkpoint: row.number })
      if (!options.keepRunning) requeueInBackground(context, sandbox, row.id)
      return row
    } catch (cause) {
      assertNotStopping(context, cause)
      const error = asStintError(cause)
      recordFailure(context, sandbox, options.trigger, error)
      // What was refused beforehand has done nothing, and may be asked for without end.
      if (payload.isTouched) audit(context, by, { ...deed, error })
      throw payload.isTouched && options.trigger === 'request' && context.kernel.rootAlive(sandbox.pid1, rootPid) ? runsOn(error) : error
    }
  })
}
