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
 * @throws StintError of the first member that failed, with its name where there are several; of several failures a refusal counts, as
 * after any other an older checkpoint is tried
 */
export async function atAll<T>(members: readonly MemberPort[], act: (member: MemberPort) => Promise<T>): Promise<T[]> {
  const outcomes = await Promise.allSettled(members.map(async (member) => act(member)))
  const failures = outcomes.flatMap((outcome, at) => (outcome.status === 'fulfilled' ? [] : [{ at, error: asStintError(outcome.reason) }]))
  const failure = failures.find(({ error }) => error.code === 'E_IDENTITY_CHANGED') ?? failures[0]
  if (failure !== undefined) {
    const member = members[failure.at]
    throw member === undefined || members.length === 1 ? failure.error : memberFailure(member, failure.error)
  }
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
}

/** The same for what must be tried everywhere whoever fails. @returns who failed, and why */
export async function atAllOthers(members: readonly MemberPort[], act: (member: MemberPort) => Promise<unknown>): Promise<{ member: MemberPort; error: StintError }[]> {
  const outcomes = await Promise.allSettled(members.map(async (member) => act(member)))
  return outcomes.flatMap((outcome, at) => (outcome.status === 'rejected' && members[at] !== undefined ? [{ member: members[at], error: asStintError(outcome.reason) }] : []))
}
