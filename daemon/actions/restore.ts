import { setTimeout as sleep } from 'node:timers/promises'
import { StintError, asStintError } from '../core/errors.ts'
import { cgroupPlaces, placesForRestore } from '../linux/cgroups.ts'
import { nodePids, rootAlive } from '../linux/payload.ts'
import { signalProcess } from '../linux/processes.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import { carryIn } from './carry.ts'
import { type Context, type Sandbox, engineDirectory, rootPid } from './context.ts'
import { armDeadline } from './deadline.ts'
import { exclusively } from './exclusively.ts'
import { parkJob } from './park.ts'

/** Sealed images of a job that its owner's requeued job may continue from, newest first. */
export function restorableImages(context: Context, jobId: number, uid: number, restarts: number): StoredImage[] {
  return context.store.list(jobId).filter(({ manifest }) => manifest.uid === uid && manifest.restarts < restarts && manifest.member === 0)
}

/** Ends what a failed restore left behind; PID 1 reaps it, and the same PIDs must be free for the next try. */
export async function clearPayload(sandbox: Sandbox): Promise<void> {
  for (let tries = 0; tries < 250; tries++) {
    const left = nodePids(sandbox.pid1)
    if (left.length === 0) return
    for (const pid of left) signalProcess(pid, 'SIGKILL')
    await sleep(20)
  }
  throw new StintError('E_CRIU_RESTORE_FAILED', 'processes of a failed restore could not be ended')
}

/** Restores one image into the sandbox. @throws StintError; the sandbox is empty again then */
async function restoreImage(context: Context, sandbox: Sandbox, image: StoredImage): Promise<void> {
  const { run, checkpoint } = image.manifest
  const attempts = context.store.countAttempt({ job: sandbox.run.job_id, run, checkpoint })
  if (attempts > context.config.restore.attempts) throw new StintError('E_CRIU_RESTORE_FAILED', `checkpoint ${checkpoint} was tried ${attempts - 1} times already`)
  context.catalogue.members.setRestoreFrom(sandbox.memberId, checkpoint)
  await context.store.verify(image)
  const workDirectory = engineDirectory(context, sandbox.run.job_id)
  try {
    const cgroups = placesForRestore(cgroupPlaces(sandbox.pid1) ?? [], context.catalogue.members.require(sandbox.memberId).payload_cgroup)
    await carryIn(context, sandbox, image.directory, cgroups)
    const running = context.engine.startRestore({
      pid1: sandbox.pid1, uid: sandbox.run.uid, gid: sandbox.run.gid, rootPid: image.manifest.rootPid, directory: image.directory, workDirectory,
      timeoutSeconds: context.config.restore.timeout_seconds,
      cgroups,
    })
    context.fault('restoring')
    await running.done
    if (!rootAlive(sandbox.pid1, rootPid)) throw new StintError('E_CRIU_RESTORE_FAILED', 'the payload ended in the middle of its restore')
  } catch (error) {
    await clearPayload(sandbox)
    throw error
  }
}

/** The payload runs again: on record, and its next deadline armed. */
export function markRestored(context: Context, sandbox: Sandbox, checkpoint: number, seconds: number | undefined): void {
  context.catalogue.transaction(() => {
    context.catalogue.members.move(sandbox.memberId, 'running', Date.now())
    context.catalogue.runs.setError(sandbox.run.id, null, null)
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'restored', { checkpoint, node: context.node, seconds })
  })
  sandbox.link?.send('restored')
  sandbox.link?.send('say', { text: `continued from checkpoint ${checkpoint} on ${context.node}` })
  armDeadline(context, sandbox)
}

/**
 * Continues a run from its newest checkpoint that can be restored; older ones are tried in turn. When none can, the job is
 * held with a comment: it is never started afresh over its own results, and never tried for ever.
 */
export async function restore(context: Context, sandbox: Sandbox): Promise<void> {
  await exclusively(sandbox, async () => {
    let last: StintError | undefined
    for (const image of restorableImages(context, sandbox.run.job_id, sandbox.run.uid, sandbox.restarts)) {
      const started = Date.now()
      try {
        await restoreImage(context, sandbox, image)
        markRestored(context, sandbox, image.manifest.checkpoint, (Date.now() - started) / 1000)
        return
      } catch (error) {
        last = asStintError(error)
        context.log.error({ err: last, job: sandbox.run.job_id, checkpoint: image.manifest.checkpoint, ...last.details }, 'restore failed')
        context.catalogue.events.add(sandbox.run.id, Date.now(), 'restore-failed', { checkpoint: image.manifest.checkpoint, code: last.code, message: last.message, hint: last.hint })
      }
    }
    const error = last ?? new StintError('E_NO_CHECKPOINT', 'no sealed checkpoint is left')
    context.catalogue.runs.setError(sandbox.run.id, error.code, `${error.message}. ${error.hint}`)
    sandbox.link?.send('say', { text: `the job could not be continued and is held: ${error.message}` })
    await parkJob(context, sandbox.run.job_id, error)
    sandbox.link?.send('release', { status: 1 })
  })
}
