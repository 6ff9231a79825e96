import { StintError, asStintError } from './core/errors.ts'
import type { Context } from './context.ts'

/**
 * The end of this daemon cuts short whatever is under way: waits, links to guards, requests to other nodes, the catalogue. That is
 * no fault of a job. So whoever judges a failure asks here first, and leaves everything as it stands: the next daemon goes on from
 * the catalogue (node/recover.ts).
 */

/** @throws StintError E_STOPPING while the daemon stops; to be called before a failure has any consequence for a job */
export function assertNotStopping({ stopping }: Context, cause?: unknown): void {
  if (stopping.aborted) throw new StintError('E_STOPPING', 'stintd is stopping', { cause })
}

/** Waits between two tries. @throws StintError E_STOPPING when the daemon stops first */
export async function pause(context: Context, seconds: number): Promise<void> {
  await context.clock.sleep(seconds * 1000, context.stopping).catch((cause: unknown) => {
    assertNotStopping(context, cause)
    throw cause
  })
}

/** For what goes on in the background: a failure is logged, as one of the daemon's end where it is that. */
export function logFailure(context: Context, error: unknown, job: number, message: string): void {
  if (context.stopping.aborted) context.log.info({ err: asStintError(error), job }, 'cut short by the end of this daemon; the next one goes on')
  else context.log.error({ err: error, job }, message)
}
