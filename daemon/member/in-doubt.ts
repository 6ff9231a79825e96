import { asStintError } from '../core/errors.ts'
import type { DumpOrder } from '../core/member.ts'
import type { Context, Sandbox } from '../context.ts'

/** A member that is quiet for this long asks by itself what was decided, seconds. */
const silentSeconds = 5
const askAgainSeconds = 1

/** Asks the coordinator until it has decided; a coordinator that cannot be reached has not. */
export async function awaitDecision(context: Context, sandbox: Sandbox, checkpoint: number, wanted: () => boolean): Promise<'commit' | 'abort' | undefined> {
  while (wanted() && !context.stopping.aborted) {
    try {
      const decision = await context.cluster.coordinator(sandbox.run.job_id, sandbox.coordinator ?? '').decision(checkpoint)
      if (decision !== 'pending') return decision
    } catch (error) {
      context.log.warn({ err: asStintError(error), job: sandbox.run.job_id, coordinator: sandbox.coordinator }, 'the coordinator does not answer; the payload stays as it is')
    }
    await context.clock.sleep(askAgainSeconds * 1000)
  }
  return undefined
}

/**
 * From the moment a member is quiet: its coordinator may die, or not reach it any more; nothing it has decided is missed for good.
 * @param carryOut does what was decided
 */
export function watchDecision(context: Context, sandbox: Sandbox, order: DumpOrder, carryOut: (decision: 'commit' | 'abort') => Promise<void>): void {
  const half = sandbox.dump
  const watch = async (): Promise<void> => {
    await context.clock.sleep(silentSeconds * 1000)
    const undecided = (): boolean => sandbox.dump === half && context.catalogue.checkpoints.require(half?.row.id ?? 0).decision === 'none'
    const decision = await awaitDecision(context, sandbox, order.checkpoint, undecided)
    if (decision === undefined || !undecided()) return
    context.log.warn({ job: sandbox.run.job_id, checkpoint: order.checkpoint, decision }, 'asked for the decision')
    await carryOut(decision)
  }
  watch().catch((error: unknown) => { context.log.error({ err: error, job: sandbox.run.job_id }, 'the decision could not be carried out') })
}
