import { StintError, asStintError } from '../core/errors.ts'
import type { MemberPort } from '../core/member.ts'
import type { Context, Sandbox } from '../context.ts'
import { localMember } from '../member/member.ts'

/** The run's members that are open, member 0 first. Those that are just being opened are waited for. */
export async function membersOf(context: Context, sandbox: Sandbox): Promise<MemberPort[]> {
  const others = await Promise.allSettled(sandbox.others.values())
  const open = others.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  return [localMember(context, sandbox), ...open.toSorted((a, b) => a.member - b.member)]
}

/** What failed at a member of several: its message names the member, `details.node` the node. */
export function memberFailure({ member, node }: Pick<MemberPort, 'member' | 'node'>, cause: unknown): StintError {
  const error = asStintError(cause)
  return new StintError(error.code, `member ${member} on ${node}: ${error.message}`, { cause, hint: error.hint, details: { ...error.details, node } })
}

/**
 * Does the same at all members at once and waits for every one, so that nothing is under way any more when it throws.
 * @throws StintError of the first member that failed, with its name where there are several
 */
export async function atAll<T>(members: readonly MemberPort[], act: (member: MemberPort) => Promise<T>): Promise<T[]> {
  const outcomes = await Promise.allSettled(members.map(async (member) => act(member)))
  return outcomes.map((outcome, at) => {
    if (outcome.status === 'fulfilled') return outcome.value
    throw members[at] === undefined || members.length === 1 ? asStintError(outcome.reason) : memberFailure(members[at], outcome.reason)
  })
}

/** The same for what must be tried everywhere whoever fails. @returns who failed, and why */
export async function atAllOthers(members: readonly MemberPort[], act: (member: MemberPort) => Promise<unknown>): Promise<{ member: MemberPort; error: StintError }[]> {
  const outcomes = await Promise.allSettled(members.map(async (member) => act(member)))
  return outcomes.flatMap((outcome, at) => (outcome.status === 'rejected' && members[at] !== undefined ? [{ member: members[at], error: asStintError(outcome.reason) }] : []))
}
