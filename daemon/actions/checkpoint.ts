import { release, machine } from 'node:os'
import type { Checkpoint } from '../catalogue/checkpoints.ts'
import type { ImageFile, Manifest, StintRecord } from '../core/manifest.ts'
import { StintError, asStintError } from '../core/errors.ts'
import type { Trigger } from '../core/states.ts'
import { processStat } from '../linux/processes.ts'
import { rootAlive } from '../linux/payload.ts'
import type { PreparedDump } from '../../plugins/engines/engine.ts'
import type { ImageDraft } from '../../plugins/stores/store.ts'
import { carryOut } from './carry.ts'
import { type Context, type Sandbox, engineDirectory, rootPid } from './context.ts'
import { exclusively } from './exclusively.ts'
import { assertNoObstacles, assertTreeComplete, observe, type Observation } from './observe.ts'
import { markSaved } from './mark-saved.ts'
import { pruneImages } from './prune.ts'
import { requeue } from './requeue.ts'

export interface CheckpointOptions {
  readonly trigger: Trigger
  readonly keepRunning: boolean
}

/** Everything one checkpoint in the making knows. */
interface Attempt {
  readonly row: Checkpoint
  readonly options: CheckpointOptions
  readonly observation: Observation
  readonly draft: ImageDraft
  readonly startedAt: number
}

/** @throws StintError E_NOT_REQUEUABLE, E_NOT_RUNNING when saving and ending the job would lose it */
async function assertRequeuable(context: Context, sandbox: Sandbox): Promise<void> {
  const job = await context.scontrol.showJob(sandbox.run.job_id)
  if (!job.requeue) throw new StintError('E_NOT_REQUEUABLE', `Slurm may not requeue job ${job.jobId}`)
  if (job.state === 'CANCELLED') throw new StintError('E_NOT_RUNNING', `job ${job.jobId} is being cancelled`)
}

function manifestOf(context: Context, sandbox: Sandbox, attempt: Attempt, files: ImageFile[]): Manifest {
  const { run } = sandbox
  const { row, options } = attempt
  const member = context.catalogue.members.require(sandbox.memberId)
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const now = Date.now()
  const seconds = (now - attempt.startedAt) / 1000
  const earlier = JSON.parse(run.history) as StintRecord[]
  const record = { node: context.node, startedAt: member.opened_at, endedAt: now, checkpoint: row.number, trigger: options.trigger, bytes, seconds }
  return {
    version: 1, run: run.id, job: run.job_id, uid: run.uid, gid: run.gid, user: run.user, options: run.options,
    checkpoint: row.number, trigger: options.trigger, keepRunning: options.keepRunning, member: member.member, members: 1,
    node: context.node, restarts: sandbox.restarts, createdAt: now, hostname: run.hostname, address: run.address, rootPid,
    criuVersion: context.criuVersion, kernel: release(), machine: machine(), script: run.script, carried: [...attempt.observation.carried],
    seconds, bytes, files, history: [...earlier, record],
  }
}

/** Hashes, flushes and publishes; afterwards the checkpoint can be restored. */
async function seal(context: Context, sandbox: Sandbox, attempt: Attempt): Promise<Manifest> {
  const manifest = manifestOf(context, sandbox, attempt, await attempt.draft.finish())
  const path = attempt.draft.seal(manifest)
  const { catalogue } = context
  catalogue.transaction(() => {
    catalogue.checkpoints.move(attempt.row.id, 'sealed')
    catalogue.checkpoints.setTimes(attempt.row.id, { seconds: manifest.seconds })
    catalogue.images.put({ checkpoint_id: attempt.row.id, member: manifest.member, path, bytes: manifest.bytes })
    catalogue.throughput.record(context.store.name, Date.now(), manifest.bytes, manifest.seconds * 1000)
    catalogue.events.add(sandbox.run.id, Date.now(), 'sealed', { checkpoint: attempt.row.number, bytes: manifest.bytes, seconds: manifest.seconds })
  })
  return manifest
}

/** Lets the payload go and waits until CRIU has; whether it ended or runs on is the kernel's word, not CRIU's exit code. */
async function commit(context: Context, sandbox: Sandbox, attempt: Attempt, prepared: PreparedDump): Promise<void> {
  context.catalogue.checkpoints.move(attempt.row.id, 'committed')
  const failed = await prepared.commit().then(() => undefined, (error: unknown) => asStintError(error))
  context.catalogue.checkpoints.setTimes(attempt.row.id, { frozenMs: Date.now() - attempt.startedAt })
  if (rootAlive(sandbox.pid1, rootPid) !== attempt.options.keepRunning) throw failed ?? new StintError('E_CRIU_DUMP_FAILED', 'the payload is not as the dump should have left it')
}

/** Seal, then let the payload end: from here on the run lives in the image. */
async function saveAndEnd(context: Context, sandbox: Sandbox, attempt: Attempt, prepared: PreparedDump): Promise<void> {
  const manifest = await seal(context, sandbox, attempt)
  context.fault('sealed')
  await commit(context, sandbox, attempt, prepared)
  context.catalogue.members.move(sandbox.memberId, 'held', Date.now())
  context.catalogue.runs.setHistory(sandbox.run.id, JSON.stringify(manifest.history))
  context.fault('committed')
  sandbox.link?.send('say', {
    text: `saved by ${attempt.options.trigger} as checkpoint ${attempt.row.number} on ${context.node}: ${(manifest.bytes / 1e6).toFixed(1)} MB in ${manifest.seconds.toFixed(2)} s`,
  })
}

/** Let the payload go on at once, seal while it runs. */
async function saveAndKeep(context: Context, sandbox: Sandbox, attempt: Attempt, prepared: PreparedDump): Promise<void> {
  await commit(context, sandbox, attempt, prepared)
  context.catalogue.members.move(sandbox.memberId, 'running', Date.now())
  await seal(context, sandbox, attempt)
  await context.scontrol.showJob(sandbox.run.job_id).then((job) => markSaved(context, job, attempt.row.number)).catch((error: unknown) => { context.log.warn({ err: error, job: sandbox.run.job_id }, 'Slurm has no note of this checkpoint') })
}

/** From frozen to saved. Any fault before the commit aborts: the payload resumes. */
async function saveFrozen(context: Context, sandbox: Sandbox, attempt: Attempt, prepared: PreparedDump): Promise<void> {
  try {
    context.catalogue.checkpoints.move(attempt.row.id, 'prepared')
    context.fault('prepared')
    assertTreeComplete(sandbox)
    await carryOut(context, sandbox, attempt.draft.directory, attempt.observation.carried)
    await (attempt.options.keepRunning ? saveAndKeep : saveAndEnd)(context, sandbox, attempt, prepared)
  } catch (error) {
    if (rootAlive(sandbox.pid1, rootPid)) await prepared.abort()
    throw error
  }
}

/** The payload runs on: say so everywhere, and drop what was written. */
function recordAbort(context: Context, sandbox: Sandbox, attempt: Attempt, error: StintError): void {
  const { catalogue } = context
  const published = catalogue.images.ofCheckpoint(attempt.row.id).length > 0
  catalogue.transaction(() => {
    catalogue.checkpoints.abort(attempt.row.id, error.code, error.message)
    catalogue.members.move(sandbox.memberId, 'running', Date.now())
  })
  if (published) context.store.remove({ job: sandbox.run.job_id, run: sandbox.run.id, checkpoint: attempt.row.number })
  sandbox.link?.send('unhold')
}

function recordFailure(context: Context, sandbox: Sandbox, error: StintError): void {
  context.catalogue.transaction(() => {
    context.catalogue.runs.setError(sandbox.run.id, error.code, `${error.message}. ${error.hint}`)
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'checkpoint-failed', { code: error.code, message: error.message, hint: error.hint })
  })
  sandbox.notBefore = Date.now() + context.config.checkpoint.retry_seconds * 1000
  context.log.warn({ job: sandbox.run.job_id, err: error, ...error.details }, 'checkpoint failed; the job runs on')
}

async function begin(context: Context, sandbox: Sandbox, options: CheckpointOptions): Promise<Attempt> {
  const startedAt = Date.now()
  const requeuable = options.keepRunning ? Promise.resolve() : assertRequeuable(context, sandbox)
  requeuable.catch(() => undefined) // Awaited below; an obstacle found first must not leave it unhandled.
  const observation = await observe(context, sandbox)
  assertNoObstacles(observation.obstacles)
  context.store.assertUsable(observation.bytes)
  await requeuable
  const { catalogue, store } = context
  const number = Math.max(catalogue.checkpoints.highestNumber(sandbox.run.id), ...store.list(sandbox.run.job_id).map((i) => i.manifest.checkpoint)) + 1
  const draft = store.begin({ job: sandbox.run.job_id, run: sandbox.run.id, checkpoint: number, member: 0 }, !options.keepRunning)
  const row = catalogue.transaction(() => {
    catalogue.members.move(sandbox.memberId, 'dumping', Date.now())
    catalogue.events.add(sandbox.run.id, Date.now(), 'checkpoint', { checkpoint: number, trigger: options.trigger, keepRunning: options.keepRunning, bytes: observation.bytes })
    return catalogue.checkpoints.begin(sandbox.run.id, number, options.trigger, options.keepRunning, startedAt)
  })
  return { row, options, observation, draft, startedAt }
}

async function dump(context: Context, sandbox: Sandbox, attempt: Attempt): Promise<void> {
  await using draft = attempt.draft
  try {
    if (!attempt.options.keepRunning) {
      if (sandbox.link === undefined) throw new StintError('E_NOT_RUNNING', 'the sandbox is not connected; it reconnects within a second')
      const held = sandbox.link.expect('held', 2)
      sandbox.link.send('hold')
      await held
    }
    const running = await context.engine.startDump({
      pid1: sandbox.pid1, uid: sandbox.run.uid, gid: sandbox.run.gid, rootPid, directory: draft.directory, keepRunning: attempt.options.keepRunning,
      barrierSeconds: context.config.checkpoint.timeout_seconds, runDirectory: engineDirectory(context, sandbox.run.job_id),
    })
    const stat = processStat(running.pid)
    if (stat !== undefined) context.catalogue.checkpoints.setEngine(attempt.row.id, stat.pid, stat.startTime)
    context.fault('dumping')
    await saveFrozen(context, sandbox, attempt, await running.prepared)
  } catch (error) {
    // The payload is gone although the commit was not clean: the sealed image is the run now, go on to the requeue.
    if (context.catalogue.checkpoints.require(attempt.row.id).state === 'committed' && !rootAlive(sandbox.pid1, rootPid)) return
    recordAbort(context, sandbox, attempt, asStintError(error))
    throw error
  }
}

/**
 * Saves a run as it stands. With keepRunning it goes on; otherwise it ends here and is requeued (this returns once the
 * image is sealed and the payload ended; the requeue goes on by itself).
 * @throws StintError with the run undisturbed: E_BUSY, E_PREFLIGHT, E_NOT_REQUEUABLE, E_STORE_*, E_CRIU_DUMP_FAILED
 */
export async function checkpoint(context: Context, sandbox: Sandbox, options: CheckpointOptions): Promise<Checkpoint> {
  return exclusively(sandbox, async () => {
    try {
      const attempt = await begin(context, sandbox, options)
      await dump(context, sandbox, attempt)
      context.catalogue.runs.setError(sandbox.run.id, null, null)
      pruneImages(context, sandbox.run)
      if (!options.keepRunning) {
        void requeue(context, sandbox, attempt.row.id).catch((error: unknown) => { context.log.error({ err: error, job: sandbox.run.job_id }, 'requeue ended') })
      }
      return context.catalogue.checkpoints.require(attempt.row.id)
    } catch (error) {
      recordFailure(context, sandbox, asStintError(error))
      throw error
    }
  })
}
