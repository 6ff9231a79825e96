import type { StintError } from '../core/errors.ts'
import type { Context } from './context.ts'
import { persist } from './persist.ts'

/** What a job's comment says of a reason: `squeue -O Comment` and `scontrol show job` show it. */
export function commentOf(reason: StintError): string {
  return `stint: ${reason.code}: ${reason.message}`.slice(0, 250)
}

/** Puts a job back into the queue, held, with the reason as its comment; only its owner or an admin lets it go on. */
export async function parkJob(context: Context, jobId: number, reason: StintError): Promise<void> {
  await persist(context, jobId, 'requeuehold', async () => context.scontrol.requeueHold(jobId, commentOf(reason)))
}
