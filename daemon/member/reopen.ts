import type { Context, Sandbox } from '../context.ts'
import { assertNotStopping, pause } from '../stopping.ts'

/** Between two tries to open what is shut, seconds. */
const againSeconds = 1

/** The gate first, so that who asks finds the others. @throws StintError */
export async function openUp(context: Context, sandbox: Sandbox): Promise<void> {
  if (sandbox.network !== undefined) await context.network.openGate(sandbox.pid1)
  await sandbox.post?.open()
}

/**
 * What was shut for a checkpoint or a restore is open again. Tried until it is: the payload runs, and behind a shut gate it would wait
 * for the others for ever.
 * @throws StintError E_STOPPING; the next daemon opens it
 */
export async function reopen(context: Context, sandbox: Sandbox): Promise<void> {
  for (;;) {
    try {
      await openUp(context, sandbox)
      return
    } catch (error) {
      assertNotStopping(context, error)
      if (!sandbox.pid1.isAlive) return // Nothing is left that could wait.
      context.log.error({ err: error, job: sandbox.run.job_id }, 'the network of a job that runs on is still shut; trying again')
    }
    await pause(context, againSeconds)
  }
}
