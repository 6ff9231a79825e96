import { asStintError } from '../core/errors.ts'
import type { DumpOrder, MemberPort } from '../core/member.ts'
import { planRehearsal, type RehearsalReport, type RehearseMode } from '../core/rehearsal.ts'
import type { Context, Sandbox } from '../context.ts'
import { atAll } from './members.ts'

/** Before a checkpoint of this stint was rehearsed: since its sandbox was opened here. */
function rehearsedBefore(context: Context, sandbox: Sandbox): boolean {
  const { opened_at: openedAt } = context.catalogue.members.require(sandbox.memberId)
  return context.catalogue.events.ofRun(sandbox.run.id).some(({ at, kind }) => kind === 'rehearsed' && at >= openedAt)
}

/** On record with every member's outcome, the first reason in front. */
function record(context: Context, sandbox: Sandbox, { checkpoint }: DumpOrder, reports: readonly RehearsalReport[]): void {
  const skipped = reports.find(({ outcome }) => outcome === 'skipped')
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'rehearsed', {
    checkpoint, outcome: skipped === undefined ? 'passed' : 'skipped', reason: skipped?.reason ?? null, seconds: Math.max(0, ...reports.map(({ seconds }) => seconds)),
  })
}

/** Whatever else goes wrong says nothing about the image. @throws StintError E_REHEARSAL_FAILED alone */
async function rehearseOne(member: MemberPort, order: DumpOrder, seconds: number): Promise<RehearsalReport> {
  try {
    return await member.rehearse(order, seconds)
  } catch (cause) {
    const error = asStintError(cause)
    if (error.code === 'E_REHEARSAL_FAILED') throw error
    return { outcome: 'skipped', reason: `member ${member.member} on ${member.node} could not try: ${error.message}`, seconds: 0 }
  }
}

/**
 * Tries whether a checkpoint can be restored, before anything is decided: every member restores its part beside its frozen payload.
 * Frozen also where the payload is to run on: its files must be as they were at the freeze, or CRIU refuses them.
 * @throws StintError E_REHEARSAL_FAILED with the first member that cannot be restored; the checkpoint is to be aborted
 */
export async function rehearseAll(context: Context, sandbox: Sandbox, members: readonly MemberPort[], order: DumpOrder): Promise<void> {
  const { end_time: end } = context.catalogue.members.require(sandbox.memberId)
  const plan = planRehearsal({
    mode: context.config.restore.rehearse as RehearseMode, trigger: order.trigger, rehearsedBefore: rehearsedBefore(context, sandbox),
    secondsLeft: end === null ? Infinity : (end - Date.now()) / 1000, predictedSeconds: sandbox.plan?.prediction.seconds ?? 0, marginSeconds: context.config.deadline.margin_seconds,
  })
  if (plan.what === 'none') return
  const reports = plan.what === 'skip'
    ? [{ outcome: 'skipped', reason: plan.reason, seconds: 0 } as const]
    : await atAll(members, async (member) => rehearseOne(member, order, plan.seconds))
  record(context, sandbox, order, reports)
}
