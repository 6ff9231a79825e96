import { setTimeout as sleep } from 'node:timers/promises'
import type { StintError } from '../core/errors.ts'
import type { Context } from './context.ts'

/** Tries of requeuehold before the job is left parked in its allocation. */
const attempts = 10

/** Puts a job back into the queue, held, with the reason as its comment; only its owner or an admin lets it go on. */
export async function parkJob(context: Context, jobId: number, reason: StintError): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      await context.scontrol.requeueHold(jobId, `stint: ${reason.code}: ${reason.message}`.slice(0, 250))
      return
    } catch (error) {
      if (tried >= attempts) throw error
      context.log.warn({ job: jobId, err: error }, 'requeuehold was not accepted; trying again')
      await sleep(context.config.slurm.requeue_retry_seconds * 1000, undefined, { signal: context.stopping, ref: false })
    }
  }
}
