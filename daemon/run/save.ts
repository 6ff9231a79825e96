import type { Checkpoint } from '../catalogue/checkpoints.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { checkpoint, type CheckpointOptions } from './checkpoint.ts'
import type { Context, Sandbox } from '../context.ts'

/** Between two looks for a free writer's place, seconds; random, so that nodes do not look in step. */
function slotLookSeconds(): number {
  return 0.5 + Math.random()
}

const busyLookMilliseconds = 50

/** A writer's place, or undefined: also where the store cannot be used, which the checkpoint itself will say. */
function takeSlot(context: Context, { run }: Sandbox): Disposable | undefined {
  try {
    return context.store.takeWriterSlot(run.uid)
  } catch (error) {
    context.log.debug({ err: asStintError(error) }, 'no place of a writer could be looked for')
    return { [Symbol.dispose]: () => undefined }
  }
}

/** Saves at once. Takes a writer's place if one is free, so that others make room, and goes ahead if none is. */
export async function saveNow(context: Context, sandbox: Sandbox, options: CheckpointOptions): Promise<Checkpoint> {
  const slot = takeSlot(context, sandbox)
  try {
    return await checkpoint(context, sandbox, options)
  } finally {
    slot?.[Symbol.dispose]()
  }
}

/**
 * Saves when the store has a place for one more writer: for those that can wait.
 * @throws StintError as checkpoint does; E_BUSY when no place came free before the signal
 */
export async function saveInTurn(context: Context, sandbox: Sandbox, options: CheckpointOptions, signal: AbortSignal): Promise<Checkpoint> {
  for (;;) {
    using slot = takeSlot(context, sandbox)
    if (slot !== undefined) return await checkpoint(context, sandbox, options)
    await context.clock.sleep(slotLookSeconds() * 1000, signal).catch((cause: unknown) => {
      throw new StintError('E_BUSY', `no place among the ${context.config.store.writers} writers of ${context.store.name}, of which one user has at most half, came free in time`, { cause })
    })
  }
}

/**
 * Saves and ends a run that Slurm is about to end. A checkpoint under way is waited for: after one that lets the job run on
 * there must be another, or what came since is lost.
 */
export async function saveBeforeEnd(context: Context, sandbox: Sandbox, trigger: CheckpointOptions['trigger']): Promise<void> {
  for (;;) {
    while (sandbox.busy) await context.clock.sleep(busyLookMilliseconds)
    if (context.sandboxes.get(sandbox.run.job_id) !== sandbox || context.catalogue.members.require(sandbox.memberId).state !== 'running') return
    try {
      await saveNow(context, sandbox, { trigger, keepRunning: false })
      return
    } catch (error) {
      if (asStintError(error).code !== 'E_BUSY') throw error // Another came first by a hair: wait for it, too.
    }
  }
}
