import { loseMember, runningCount, unfetchedBytes, type Launch, type LaunchBook } from '../core/launch-book.ts'
import { StintError, asStintError } from '../core/errors.ts'
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
  const text = JSON.stringify(book)
  context.catalogue.withoutFlush(() => { context.catalogue.runs.setLaunches(sandbox.run.id, text) })
  sandbox.launches = book
  sandbox.launchBytes = text.length
}

/** A launcher that fetches nothing for so long is stopped, or has gone: what is sent to it is refused. */
const stalledMilliseconds = 10_000

/**
 * Whether the book takes no more bytes: what comes on top waits, as a pipe has it.
 * @param more bytes that are about to be added
 */
export function isFull(context: Context, sandbox: Sandbox, more: number): boolean {
  const room = context.config.limits.launch_book_mb * 1e6
  const kept = unfetchedBytes(launchBook(context, sandbox))
  // One that is larger than all the room still goes into an empty book.
  if (kept === 0 || kept + more * 4 / 3 <= room) {
    delete sandbox.launchesFullSince
    return false
  }
  sandbox.launchesFullSince ??= performance.now()
  return true
}

/** @throws StintError E_OVER_BUDGET when the run has too many commands under way, or its launchers have fetched nothing for some time */
export function assertLaunchable(context: Context, sandbox: Sandbox): void {
  const { launches_per_run: most, launch_book_mb: room } = context.config.limits
  if (runningCount(launchBook(context, sandbox)) >= most) {
    throw new StintError('E_OVER_BUDGET', `${most} commands of this job's MPI launchers are under way already (limits.launches_per_run)`, { hint: 'Wait until some have ended.' })
  }
  const { launchesFullSince: since } = sandbox
  if (since === undefined || performance.now() - since < stalledMilliseconds) return
  throw new StintError('E_OVER_BUDGET', `${room} MB of commands and output of this job wait to be fetched (limits.launch_book_mb)`, {
    hint: "Look for stopped processes of the job: what starts its commands on the other nodes, or what reads their output.",
  })
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
