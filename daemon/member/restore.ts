import { StintError, asStintError } from '../core/errors.ts'
import { placesForRestore } from '../linux/cgroups.ts'
import type { ProcessStat } from '../linux/processes.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import { type Context, type Sandbox, engineDirectory, rootPid } from '../context.ts'
import { pathsForDeleted } from './deleted-names.ts'
import { reopen } from './reopen.ts'
import { settleSeconds } from './probation-seconds.ts'
import { assertNotStopping } from '../stopping.ts'

/** A member's half of a restore, in the order the coordinator calls it (core/member.ts). */

/** Ends what is left of a payload; PID 1 reaps it, and the same PIDs must be free for the next try. */
async function clearPayload(context: Context, sandbox: Sandbox): Promise<void> {
  for (let tries = 0; tries < 250; tries++) {
    if (await context.kernel.killPayload(sandbox.pid1) === 0) return
    await context.clock.sleep(20)
  }
  throw new StintError('E_CRIU_RESTORE_FAILED', 'processes of a failed restore could not be ended')
}

/** Slurm may have lowered the limit since (26.05: --mem-update): the kernel would end the job in the midst of its restore. @throws StintError E_TOO_LITTLE_MEMORY */
function assertRoom({ kernel }: Context, sandbox: Sandbox, { manifest: { checkpoint, memory } }: StoredImage): void {
  const { memory: limit, withSwap } = kernel.memoryLimit(kernel.cgroupPlaces(sandbox.pid1) ?? [], kernel.nodeSwapBytes())
  if (memory === undefined || withSwap === undefined || memory <= withSwap) return
  const megabytes = (bytes: number): number => Math.ceil(bytes / 2 ** 20)
  throw new StintError('E_TOO_LITTLE_MEMORY', `the job held ${megabytes(memory)} MB of memory at checkpoint ${checkpoint}, and may have ${megabytes(limit ?? withSwap)} MB here`)
}

/**
 * Restores this member's image up to the barrier.
 * @throws StintError; the sandbox is empty again then. E_NOT_RUNNING, E_BUSY for a request that comes late, or twice: nothing is changed
 */
export async function restoreMember(context: Context, sandbox: Sandbox, checkpoint: number): Promise<void> {
  if (context.catalogue.members.require(sandbox.memberId).state !== 'restoring') throw new StintError('E_NOT_RUNNING', `member ${sandbox.member} does not wait to be restored`)
  if (sandbox.restoreStep !== undefined || sandbox.restoring !== undefined) throw new StintError('E_BUSY', `member ${sandbox.member} is being restored`)
  const ending = new AbortController()
  const done = restoreNow(context, sandbox, checkpoint, ending.signal)
  sandbox.restoreStep = { ending, done }
  try {
    await done
  } finally {
    delete sandbox.restoreStep
  }
}

async function restoreNow(context: Context, sandbox: Sandbox, checkpoint: number, ending: AbortSignal): Promise<void> {
  await sandbox.clearing?.catch(() => undefined)
  const { run } = sandbox
  const image = context.store.find({ job: run.job_id, run: run.id, checkpoint, member: sandbox.member })
  const forged = context.store.unreadable(run.job_id).find((odd) => odd.run === run.id && odd.checkpoint === checkpoint && odd.error.code === 'E_IMAGE_FORGED')
  if (forged !== undefined) throw forged.error
  if (image?.manifest.uid !== run.uid) throw new StintError('E_IMAGE_DAMAGED', `checkpoint ${checkpoint} has no image of member ${sandbox.member} that ${context.node} can read`)
  context.catalogue.members.setRestoreFrom(sandbox.memberId, checkpoint)
  await context.store.verify(image)
  await context.contents.assertNotForged(context, image.directory, image.manifest)
  await context.engine.assertFits(image.directory)
  try {
    if (sandbox.network !== undefined) await context.network.shutGate(sandbox.pid1)
    if (sandbox.options.net === 'private') await context.network.silence(sandbox.pid1)
    const cgroups = placesForRestore(context.kernel.cgroupPlaces(sandbox.pid1) ?? [], context.catalogue.members.require(sandbox.memberId).payload_cgroup)
    assertRoom(context, sandbox, image)
    const groups = context.users.groupsOf(run.user)
    groups.catch(() => undefined) // Awaited below.
    await context.contents.putIn(context, sandbox, image, cgroups)
    ending.throwIfAborted()
    const running = await context.engine.startRestore({
      paths: await pathsForDeleted(context, sandbox, image.directory, await groups, true),
      pid1: sandbox.pid1, uid: run.uid, gid: run.gid, groups: await groups, rootPid: image.manifest.rootPid, directory: image.directory, workDirectory: engineDirectory(context, run.job_id),
      timeoutSeconds: context.config.restore.timeout_seconds,
      cgroups, restored: async () => context.contents.putBackLedger(context, sandbox, image.directory),
    })
    context.fault('restoring')
    sandbox.restoring = await running.prepared
    await context.contents.assertSame(context, sandbox, image.directory)
  } catch (error) {
    assertNotStopping(context, error)
    await clearNow(context, sandbox)
    throw error
  }
}

/** A restore that outlived the daemon which began it: gives it the word and waits for its end. No error when there is none. */
async function settleOrphan(context: Context, sandbox: Sandbox, word: 'commit' | 'abort'): Promise<void> {
  const engines = async (): Promise<ProcessStat[]> => context.kernel.enginesIn(sandbox.pid1, context.engine.name)
  const [found] = await engines()
  if (found === undefined) return
  const ended = async (): Promise<void> => {
    while ((await engines()).length > 0) await context.clock.sleep(50)
  }
  await context.engine.answerOrphan({ pid1: sandbox.pid1, timeoutSeconds: context.config.restore.timeout_seconds, runDirectory: engineDirectory(context, sandbox.run.job_id), pid: found.pid, startTime: found.startTime, uid: sandbox.run.uid, operation: 'restore', word, ended: ended() })
}

/** Lets the restored payload run and opens the gate. No error when it runs already. @throws StintError E_CRIU_RESTORE_FAILED */
export async function resume(context: Context, sandbox: Sandbox): Promise<void> {
  const { restoring } = sandbox
  sandbox.restoring = undefined
  if (restoring !== undefined) await restoring.commit()
  else await settleOrphan(context, sandbox, 'commit')
  if (restoring === undefined && !context.kernel.rootAlive(sandbox.pid1, rootPid)) throw new StintError('E_CRIU_RESTORE_FAILED', `member ${sandbox.member} has no payload to go on with`)
  if (sandbox.options.net === 'private') await context.network.endSilence(sandbox.pid1)
  context.catalogue.transaction(() => {
    context.catalogue.members.move(sandbox.memberId, 'running', Date.now())
    context.catalogue.runs.setError(sandbox.run.id, null, null)
  })
  sandbox.link?.send('restored', { settle: settleSeconds(context, sandbox) })
  await reopen(context, sandbox)
}

/** Ends whatever of a payload is there, and what is about to restore one: the member waits to be restored then. No error when nothing is there. */
export async function clear(context: Context, sandbox: Sandbox): Promise<void> {
  // The restore that came before it; one that comes later waits for it.
  const { restoreStep, clearing: before = Promise.resolve() } = sandbox
  const clearing = before.catch(() => undefined).then(async () => clearAll(context, sandbox, restoreStep))
  sandbox.clearing = clearing
  try {
    await clearing
  } finally {
    if (sandbox.clearing === clearing) delete sandbox.clearing
  }
}

async function clearAll(context: Context, sandbox: Sandbox, restoreStep: Sandbox['restoreStep']): Promise<void> {
  if (restoreStep !== undefined) {
    restoreStep.ending.abort(new StintError('E_NOT_RUNNING', `the restore of member ${sandbox.member} was given up`))
    await clearPayload(context, sandbox) // The engine is in there, too.
    await restoreStep.done.catch(() => undefined)
  }
  context.catalogue.members.move(sandbox.memberId, 'restoring', Date.now())
  await clearNow(context, sandbox)
}

async function clearNow(context: Context, sandbox: Sandbox): Promise<void> {
  const { restoring } = sandbox
  sandbox.restoring = undefined
  if (restoring === undefined) await settleOrphan(context, sandbox, 'abort')
  await restoring?.abort().catch((error: unknown) => { context.log.warn({ err: asStintError(error), job: sandbox.run.job_id }, 'the engine did not give up') })
  await clearPayload(context, sandbox)
}
