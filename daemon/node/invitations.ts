import { StintError, asStintError } from '../core/errors.ts'
import { memberAddress } from '../core/addresses.ts'
import { emptyBook } from '../core/launch-book.ts'
import type { MemberPlan } from '../core/member.ts'
import { parseOptions } from '../core/options.ts'
import { numberWord, type Message } from '../core/wire.ts'
import type { GuardLink } from '../member/monitor-connection.ts'
import { buildSandbox, type Blueprint } from '../member/open.ts'
import { verifyClaim, type Claim } from '../member/claim.ts'
import { abandonMember } from '../member/close.ts'
import type { Context } from '../context.ts'
import { runSide } from '../run/run-side.ts'
import { assertNotStopping } from '../stopping.ts'

/** The coordinator has told that a member's step is about to come; an earlier plan for this job is superseded. */
export function expectMember(context: Context, plan: MemberPlan): void {
  const opened = Promise.withResolvers<undefined>()
  opened.promise.catch(() => undefined) // Observed through `awaitMember`, if at all.
  context.expected.get(plan.job)?.opened.reject(new StintError('E_NOT_RUNNING', 'the coordinator has begun again'))
  context.expected.set(plan.job, { plan, opened })
}

/** Waits for the sandbox of an expected member. @throws StintError as it was refused, E_NOT_RUNNING when it does not come in time */
export async function awaitMember(context: Context, jobId: number, seconds: number): Promise<void> {
  const expected = context.expected.get(jobId)
  if (expected === undefined) throw new StintError('E_NOT_RUNNING', `no member of job ${jobId} is expected on ${context.node}`)
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => { late.reject(new StintError('E_NOT_RUNNING', `the step on ${context.node} did not open its sandbox within ${seconds} s`)) }, seconds * 1000)
  try {
    await Promise.race([expected.opened.promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

function blueprintOf(context: Context, claim: Claim, plan: MemberPlan): Blueprint {
  const { run, job, uid, gid, user, options, member, hosts, nodes, network, createdAt, restarts, restoring, coordinator, endTime } = plan
  return {
    claim, options: parseOptions(options), restoring, member, hosts, nodes, network, coordinator, restarts, end: endTime,
    run: {
      id: run, job_id: job, uid, gid, user, options, hostname: hosts[member] ?? context.node, address: memberAddress(network.prefix, member), script: '', outputs: '[]', history: '[]', created_at: createdAt,
      hosts: JSON.stringify(hosts), network: JSON.stringify(network), launches: JSON.stringify(emptyBook),
    },
  }
}

/**
 * Opens the sandbox of a member's step. Only one that the coordinator of this very job has announced, for its owner: a user
 * who starts such a step by hand gets nothing by it.
 */
export async function openMember(context: Context, link: GuardLink, message: Message): Promise<void> {
  const expected = context.expected.get(numberWord(message, 'job') ?? 0)
  let memberId: number | undefined
  try {
    const claim = verifyClaim(link, message)
    if (expected?.plan.uid !== claim.uid || expected.plan.member !== numberWord(message, 'member') || context.sandboxes.has(claim.jobId)) {
      throw new StintError('E_NOT_VERIFIED', `no such member of job ${claim.jobId} is expected on ${context.node}`)
    }
    await buildSandbox(context, link, blueprintOf(context, claim, expected.plan), runSide(context), (id) => { memberId = id })
    expected.opened.resolve(undefined)
  } catch (cause) {
    assertNotStopping(context, cause)
    const error = asStintError(cause)
    context.log.error({ err: error, peer: link.peer }, 'member not opened')
    if (memberId !== undefined) abandonMember(context, memberId)
    expected?.opened.reject(error)
    link.send('refuse', { code: error.code, message: error.message })
  }
}
