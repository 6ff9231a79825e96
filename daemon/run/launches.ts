import { loseMember, type Launch, type LaunchBook } from '../core/launch-book.ts'
import { asStintError } from '../core/errors.ts'
import { type Context, type Sandbox, scriptPid } from '../context.ts'
import { membersOf } from './members.ts'

/** The coordinator's launch book on record, and waking those whom a change of it concerns. */

export function launchBook(context: Context, sandbox: Sandbox): LaunchBook {
  return (sandbox.launches ??= JSON.parse(context.catalogue.runs.launches(sandbox.run.id)) as LaunchBook)
}

/**
 * Synchronous, so that no two letters meet: whoever changes the book has no `await` between reading and writing. On record before
 * a letter is answered, for what was answered is not said again: the next daemon must know it. The next boot of this node need not:
 * then the run goes back to a checkpoint, whose manifest has the book of that moment. So nobody waits for the device.
 */
export function writeBook(context: Context, sandbox: Sandbox, book: LaunchBook): void {
  if (book === sandbox.launches) return
  context.catalogue.withoutFlush(() => { context.catalogue.runs.setLaunches(sandbox.run.id, JSON.stringify(book)) })
  sandbox.launches = book
}

/** Tells a process that there is something for it. A wake that is lost is made up for by its own asking after a while. */
async function wake(context: Context, sandbox: Sandbox, { member, pid }: { member: number; pid: number }): Promise<void> {
  try {
    const found = (await membersOf(context, sandbox)).find((m) => m.member === member)
    await found?.wake(pid)
  } catch (error) {
    context.log.info({ err: asStintError(error), job: sandbox.run.job_id, member }, 'a wake was lost')
  }
}

export function wakeAgent(context: Context, sandbox: Sandbox, launch: Launch): void {
  void wake(context, sandbox, { member: launch.agentMember, pid: launch.agentPid })
}

export function wakeLauncher(context: Context, sandbox: Sandbox, member: number): void {
  void wake(context, sandbox, { member, pid: scriptPid })
}

/** A member's sandbox has ended: so have its commands, and who waits for them is told. */
export function endLaunchesOf(context: Context, sandbox: Sandbox, member: number): void {
  const { book, lost } = loseMember(launchBook(context, sandbox), member)
  writeBook(context, sandbox, book)
  for (const one of lost) wakeAgent(context, sandbox, one)
}
