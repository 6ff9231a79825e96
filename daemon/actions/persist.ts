import { setTimeout as sleep } from 'node:timers/promises'
import { asStintError } from '../core/errors.ts'
import { isSlurmctldAbsent } from '../core/slurm-absence.ts'
import type { Context } from './context.ts'

/** Refusals of a slurmctld that does answer, before a step is given up: some pass, like that of a job that is completing. */
const refusals = 10

/**
 * Does what must reach slurmctld: for as long as it does not answer, and a bounded number of times while it refuses.
 * @throws StintError E_SLURM, the last refusal; AbortError when the daemon stops
 */
export async function persist<T>(context: Context, jobId: number, what: string, step: () => Promise<T>): Promise<T> {
  for (let refused = 0; ; ) {
    try {
      return await step()
    } catch (error) {
      if (!isSlurmctldAbsent(asStintError(error).message) && ++refused >= refusals) throw error
      context.log.warn({ job: jobId, err: error }, `${what} was not accepted; trying again`)
      await sleep(context.config.slurm.requeue_retry_seconds * 1000, undefined, { signal: context.stopping, ref: false })
    }
  }
}
