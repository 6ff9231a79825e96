import { StintError } from '../core/errors.ts'
import type { Sandbox } from '../context.ts'

/**
 * The one lock of a sandbox: checkpoint, restore and recovery never overlap. Not reentrant; nothing waits, the second
 * caller is refused.
 * @throws StintError E_BUSY when taken
 */
export async function exclusively<T>(sandbox: Sandbox, work: () => Promise<T>): Promise<T> {
  if (sandbox.busy) throw new StintError('E_BUSY', `job ${sandbox.run.job_id} is being saved or restored`)
  sandbox.busy = true
  try {
    return await work()
  } finally {
    sandbox.busy = false
  }
}
