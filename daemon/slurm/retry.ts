import { asStintError } from '../core/errors.ts'
import { isSlurmctldAbsent } from '../core/slurm-absence.ts'
import type { Context } from '../context.ts'
import { assertNotStopping, pause } from '../stopping.ts'

/** Refusals of a slurmctld that does answer, before a step is given up: some pass, like that of a job that is completing. */
const refusals = 10

/**
 * Does what must reach slurmctld: for as long as it does not answer or the step itself waits (`waits` in an error's details), and a
 * bounded number of times while it refuses.
 * @throws StintError E_SLURM, the last refusal; E_STOPPING
 */
export async function persist<T>(context: Context, jobId: number, what: string, step: () => Promise<T>): Promise<T> {
  for (let refused = 0; ; ) {
    try {
      return await step()
    } catch (error) {
      assertNotStopping(context, error)
      const { message, details } = asStintError(error)
      if (!isSlurmctldAbsent(message) && details['waits'] !== true && ++refused >= refusals) throw error
      context.log.warn({ job: jobId, err: error }, `${what} was not accepted; trying again`)
      await pause(context, context.config.slurm.requeue_retry_seconds)
    }
  }
}
