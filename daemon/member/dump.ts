import { release, machine } from 'node:os'
import type { PreparedDump, RunningDump } from '../../plugins/engines/engine.ts'
import type { DumpOrder, DumpReport, RunCut, SealReport } from '../core/member.ts'
import type { ImageFile, Manifest, StintRecord } from '../core/manifest.ts'
import { emptyBook } from '../core/launch-book.ts'
import { StintError, asStintError, isErrorCode } from '../core/errors.ts'
import { type Context, type MemberDump, type Sandbox, engineDirectory, rootPid } from '../context.ts'
import { assertNoObstacles, assertTreeComplete, bytesBeside } from './preflight.ts'
import { watchDecision } from './in-doubt.ts'
import { reopen } from './reopen.ts'
import { assertNotStopping } from '../stopping.ts'
import { SpaceWatch, outOfRoom } from './space-watch.ts'

/** A member's half of a checkpoint, in the order the coordinator calls it (core/member.ts). Each step may be the last. */

/** Seconds the guard may take to hold. */
const holdSeconds = 2

function requireDump(sandbox: Sandbox, order: DumpOrder): MemberDump {
  const { dump } = sandbox
  if (dump?.row.number !== order.checkpoint) throw new StintError('E_NOT_RUNNING', `member ${sandbox.member} has no checkpoint ${order.checkpoint} in the making`)
  return dump
}

/** From now on a root that is killed has been dumped. */
async function hold(sandbox: Sandbox): Promise<void> {
  if (sandbox.link === undefined) throw new StintError('E_NOT_RUNNING', 'the sandbox is not connected; it reconnects within a second')
  const held = sandbox.link.expect('held', holdSeconds)
  sandbox.link.send('hold')
  await held
}

/**
 * A payload that ran on at once may have left its half behind, when the coordinator could not tell that the whole was sealed.
 * A coordinator that begins anew is done with it. @throws StintError E_BUSY while a checkpoint of this member is under way
 */
async function dropFinished(context: Context, sandbox: Sandbox): Promise<void> {
  if (sandbox.dump === undefined) return
  const { decision, keep_running: keptRunning } = context.catalogue.checkpoints.require(sandbox.dump.row.id)
  if (keptRunning !== 1 || decision !== 'commit') throw new StintError('E_BUSY', `member ${sandbox.member} is being saved`)
  await endDump(sandbox)
}

/** One step at a time, which whoever gives the checkpoint up waits for: what goes on behind an abort would shut what that has opened. */
async function during<T>(half: MemberDump, work: () => Promise<T>): Promise<T> {
  await half.step.catch(() => undefined)
  half.ending.signal.throwIfAborted()
  const step = work()
  half.step = step
  return step
}

/** @throws StintError E_BUSY while another checkpoint of this member is under way */
export async function quiesce(context: Context, sandbox: Sandbox, order: DumpOrder): Promise<void> {
  await dropFinished(context, sandbox)
  const { catalogue, store } = context
  const { run } = sandbox
  if (catalogue.members.require(sandbox.memberId).state === 'ended') throw new StintError('E_NOT_RUNNING', `job ${run.job_id} has just ended`)
  // A request that comes late, or twice: what it asks for is over here.
  if (catalogue.checkpoints.ofRun(run.id).some(({ number }) => number === order.checkpoint)) throw new StintError('E_NOT_RUNNING', `checkpoint ${order.checkpoint} was begun here before`)
  const startedAt = Date.now()
  const key = { job: run.job_id, run: run.id, checkpoint: order.checkpoint, member: sandbox.member, coordinator: order.coordinator }
  await using begun = new AsyncDisposableStack()
  const draft = begun.use(store.begin(key, !order.keepRunning))
  const row = catalogue.transaction(() => {
    catalogue.members.move(sandbox.memberId, 'dumping', startedAt)
    return catalogue.checkpoints.begin(run.id, order.checkpoint, order.trigger, order.keepRunning, startedAt)
  })
  begun.move() // From here on it is the dump's.
  const half: MemberDump = { row, draft, startedAt, ending: new AbortController(), step: Promise.resolve(), isBegun: false, reached: undefined, prepared: undefined, files: undefined, carried: [], memory: undefined, objects: undefined }
  sandbox.dump = half
  if (sandbox.coordinator !== undefined) {
    watchDecision(context, sandbox, order, async (decision) => (
      decision === 'commit' ? commit(context, sandbox, order) : abort(context, sandbox, order, { code: 'E_PEER', message: 'the coordinator has given this checkpoint up' })
    ))
  }
  const { signal } = half.ending
  await during(half, async () => {
    await sandbox.post?.shut()
    signal.throwIfAborted()
    if (sandbox.network !== undefined) await context.network.shutGate(sandbox.pid1)
    signal.throwIfAborted()
    if (!order.keepRunning) await hold(sandbox)
  })
}

/** Until the engine stands at its barrier and what is not the engine's is in the image, too. */
export async function dump(context: Context, sandbox: Sandbox, order: DumpOrder): Promise<DumpReport> {
  const half = requireDump(sandbox, order)
  if (half.isBegun) throw new StintError('E_BUSY', `checkpoint ${order.checkpoint} is being dumped`)
  half.isBegun = true
  return during(half, async () => dumpHalf(context, sandbox, order, half))
}

async function dumpHalf(context: Context, sandbox: Sandbox, order: DumpOrder, half: MemberDump): Promise<DumpReport> {
  const { row, draft, ending } = half
  const { run, pid1 } = sandbox
  const room = roomOf(sandbox, order)
  using space = new SpaceWatch(draft.directory, room)
  const started = performance.now()
  const running = await context.engine.startDump({
    pid1, uid: run.uid, gid: run.gid, groups: context.kernel.payloadGroups(pid1, rootPid), rootPid, directory: draft.directory, keepRunning: order.keepRunning, unseen: sandbox.noticing === true,
    limitBytes: room, barrierSeconds: context.config.checkpoint.timeout_seconds, runDirectory: engineDirectory(context, run.job_id),
  })
  const stat = context.kernel.processStat(running.pid)
  if (stat !== undefined) context.catalogue.checkpoints.setEngine(row.id, stat.pid, stat.startTime)
  context.fault('dumping')
  half.reached = running.prepared
  half.prepared = await withinLimits(context, running, space.signal, room, context.config.checkpoint.timeout_seconds)
  ending.signal.throwIfAborted()
  half.memory = context.kernel.memoryInUse(context.kernel.cgroupPlaces(pid1) ?? [])
  const dumpMs = performance.now() - started
  context.catalogue.checkpoints.reach(row.id, 'written')
  context.fault('prepared')
  const found = await context.look('frozen', sandbox, null)
  assertTreeComplete(found.lost)
  assertNoObstacles(found.obstacles)
  const { carried, objects } = found
  Object.assign(half, { carried, objects, files: found })
  for (const text of found.notes) sandbox.link?.send('say', { text })
  if (order.keepRunning && found.watchesTrees) tellWatchers(context, sandbox)
  ending.signal.throwIfAborted()
  await context.contents.recordFrozen(context, sandbox, draft.directory, found, AbortSignal.any([space.signal, ending.signal]))
  await context.contents.assertWithinRoom(draft.directory, room)
  return { dumpMs, bytes: await context.contents.bytesBelow(draft.directory) }
}

/** All members are frozen: what they have open for writing goes on record. */
export async function record(context: Context, sandbox: Sandbox, order: DumpOrder): Promise<void> {
  const half = requireDump(sandbox, order)
  const { files, objects } = half
  if (files === undefined || objects === undefined) throw new StintError('E_NOT_RUNNING', `member ${sandbox.member} is not at its barrier`)
  await during(half, async () => {
    half.objects = { ...objects, copies: await context.contents.recordFiles(context, sandbox, half.draft.directory, files) }
    await context.contents.assertWithinRoom(half.draft.directory, roomOf(sandbox, order))
  })
}

/** Bytes that this member may write. */
function roomOf(sandbox: Sandbox, { members, room }: DumpOrder): number {
  return room?.[members.indexOf(sandbox.member)] ?? Infinity
}

/**
 * Waits for the engine at its barrier, and ends it beyond its limits, whatever it does.
 * @param over aborts when it has written too much
 * @param room beyond which no file of it grows, bytes
 * @throws StintError as the engine does; the reason of `over`; E_CRIU_DUMP_FAILED after `seconds`
 */
async function withinLimits(context: Context, running: RunningDump, over: AbortSignal, room: number, seconds: number): Promise<PreparedDump> {
  const late = context.clock.timeout(Math.ceil(seconds * 1000))
  const stop = (): void => { running.stop() }
  for (const signal of [over, late]) signal.addEventListener('abort', stop, { once: true })
  try {
    return await running.prepared
  } catch (error) {
    over.throwIfAborted()
    if (!late.aborted && asStintError(error).message.includes('File too large')) throw outOfRoom(room)
    if (late.aborted) throw new StintError('E_CRIU_DUMP_FAILED', `the dump took longer than checkpoint.timeout_seconds (${seconds} s) and was ended`, { cause: error, hint: 'The image store may be slow or the job too large for it; ask your admin.' })
    throw error
  } finally {
    for (const signal of [over, late]) signal.removeEventListener('abort', stop)
  }
}

/** What the payload will see of a checkpoint that it survives (docs/reference/visible.md) is said once in a run. */
function tellWatchers(context: Context, sandbox: Sandbox): void {
  const { events } = context.catalogue
  if (events.ofRun(sandbox.run.id).some(({ kind }) => kind === 'watched')) return
  events.add(sandbox.run.id, Date.now(), 'watched', {})
  sandbox.link?.send('say', { text: 'the job watches files in /tmp or /dev/shm for being opened or read (inotify, fanotify): a checkpoint that it survives reads them, and it will see that' })
}

function manifestOf(context: Context, sandbox: Sandbox, order: DumpOrder, cut: RunCut, files: ImageFile[]): Manifest {
  const { run, network } = sandbox
  const { startedAt, carried, memory } = requireDump(sandbox, order)
  const member = context.catalogue.members.require(sandbox.memberId)
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const now = Date.now()
  // The trigger's instant is of the coordinator's clock; other members count from their own beginning.
  const seconds = (now - (sandbox.member === 0 ? cut.startedAt : startedAt)) / 1000
  const record = { node: context.node, startedAt: member.opened_at, endedAt: now, checkpoint: order.checkpoint, trigger: order.trigger, bytes: cut.bytes, seconds }
  return {
    version: 1, run: run.id, job: run.job_id, uid: run.uid, gid: run.gid, user: run.user, options: run.options,
    checkpoint: order.checkpoint, trigger: order.trigger, keepRunning: order.keepRunning, member: sandbox.member, members: order.members,
    hosts: [...sandbox.hosts], nodes: [...sandbox.nodes], network: network ?? null, launches: sandbox.member === 0 ? cut.launches : emptyBook,
    node: context.node, restarts: sandbox.restarts, createdAt: now, hostname: run.hostname, address: run.address, rootPid,
    criuVersion: context.criuVersion, kernel: release(), machine: machine(), script: run.script, carried: [...carried],
    seconds, bytes, ...(memory === undefined ? {} : { memory }), files, history: [...(JSON.parse(run.history) as StintRecord[]), record],
  }
}

/** Hashes, flushes, and writes the manifest; the whole checkpoint is published by `publish`. */
export async function seal(context: Context, sandbox: Sandbox, order: DumpOrder, cut: RunCut): Promise<SealReport> {
  const { row, draft, objects, ending } = requireDump(sandbox, order)
  const { catalogue } = context
  const manifest = manifestOf(context, sandbox, order, cut, await draft.finish())
  await context.contents.assertNotForged(context, draft.directory, manifest)
  ending.signal.throwIfAborted()
  const path = draft.seal(manifest)
  catalogue.transaction(() => {
    catalogue.checkpoints.reach(row.id, 'sealed')
    catalogue.checkpoints.setTimes(row.id, { seconds: manifest.seconds })
    catalogue.images.put({ checkpoint_id: row.id, member: manifest.member, path, bytes: manifest.bytes })
    if (order.keepRunning || objects === undefined) return // Beside a payload that runs on a seal takes longer, and nothing waits for it.
    catalogue.throughput.record(context.store.name, Date.now(), manifest.bytes + bytesBeside(context, sandbox), manifest.seconds * 1000, objects)
    catalogue.runs.setHistory(sandbox.run.id, JSON.stringify(manifest.history))
  })
  return { bytes: manifest.bytes, seconds: manifest.seconds, path }
}

/** Lets the payload go and waits until the engine has; whether it ended or runs on is the kernel's word, not an exit code. */
export async function commit(context: Context, sandbox: Sandbox, order: DumpOrder): Promise<void> {
  const { row, prepared, startedAt } = requireDump(sandbox, order)
  const { catalogue } = context
  if (prepared === undefined) throw new StintError('E_NOT_RUNNING', `member ${sandbox.member} is not at its barrier`)
  if (catalogue.members.require(sandbox.memberId).state === 'ended') throw new StintError('E_NOT_RUNNING', `job ${sandbox.run.job_id} has just ended`)
  if (catalogue.checkpoints.require(row.id).decision === 'none') catalogue.checkpoints.commit(row.id)
  context.fault('ending')
  const failed = await prepared.commit().then(() => undefined, (error: unknown) => asStintError(error))
  catalogue.checkpoints.setTimes(row.id, { frozenMs: Date.now() - startedAt })
  if (catalogue.members.require(sandbox.memberId).state === 'ended') return // By Slurm, meanwhile.
  if (context.kernel.rootAlive(sandbox.pid1, rootPid) !== order.keepRunning) throw failed ?? new StintError('E_CRIU_DUMP_FAILED', 'the payload is not as the dump should have left it')
  catalogue.members.move(sandbox.memberId, order.keepRunning ? 'running' : 'held', Date.now())
  if (order.keepRunning) await reopen(context, sandbox)
  else await endDump(sandbox)
  // A member's step may end by now; the batch step holds until the requeue.
  if (!order.keepRunning && sandbox.coordinator !== undefined) sandbox.link?.send('release', { status: 0 })
}

/** This half is done: published with its checkpoint, or dropped. */
export async function endDump(sandbox: Sandbox): Promise<void> {
  const { dump: half } = sandbox
  sandbox.dump = undefined
  await half?.draft[Symbol.asyncDispose]()
}

/** A store that is away keeps nobody from running on: what is left there is removed at the coordinator's start, or in time. */
export async function dropImage(context: Context, sandbox: Sandbox, checkpoint: number): Promise<void> {
  try {
    await endDump(sandbox)
    context.store.remove({ job: sandbox.run.job_id, run: sandbox.run.id, checkpoint })
  } catch (error) {
    assertNotStopping(context, error)
    context.log.error({ err: error, job: sandbox.run.job_id, checkpoint }, 'a checkpoint that was given up could not be removed from the store')
  }
}

/** The checkpoint gets its final name. Of a payload that runs on nothing is left to do then. */
export async function publish(context: Context, sandbox: Sandbox, order: DumpOrder): Promise<void> {
  requireDump(sandbox, order)
  context.store.publish({ job: sandbox.run.job_id, run: sandbox.run.id, ...order })
  if (order.keepRunning) await endDump(sandbox)
}

/**
 * The payload runs on, what was written is dropped. Also for a member that heard nothing of this checkpoint, or is done with
 * it: a gate that was shut is opened again.
 */
export async function abort(context: Context, sandbox: Sandbox, order: DumpOrder, reason: { readonly code: string; readonly message: string }): Promise<void> {
  const { dump: half } = sandbox
  const { catalogue } = context
  if (half?.row.number !== order.checkpoint) return
  // What is under way ends first; an engine comes to its barrier: killed in its work it would leave its traces in the payload.
  half.ending.abort(new StintError(isErrorCode(reason.code) ? reason.code : 'E_INTERNAL', reason.message))
  await half.step.catch(() => undefined)
  await half.reached?.catch(() => undefined)
  if (half.prepared !== undefined && context.kernel.rootAlive(sandbox.pid1, rootPid)) await half.prepared.abort()
  // Somebody ended the job in the middle.
  const isOver = (): boolean => catalogue.members.require(sandbox.memberId).state === 'ended'
  if (!isOver()) {
    sandbox.link?.send('unhold')
    await reopen(context, sandbox)
  }
  // On record last: until then the next daemon does all of it again.
  await dropImage(context, sandbox, order.checkpoint)
  catalogue.transaction(() => {
    if (catalogue.checkpoints.require(half.row.id).phase !== 'dropped') catalogue.checkpoints.giveUp(half.row.id, reason.code, reason.message)
    if (!isOver()) catalogue.members.move(sandbox.memberId, 'running', Date.now())
  })
}
