import { setTimeout as sleep } from 'node:timers/promises'
import type { Checkpoint } from '../catalogue/checkpoints.ts'
import type { Member } from '../catalogue/members.ts'
import { StintError } from '../core/errors.ts'
import { parseOptions } from '../core/options.ts'
import { numberWord, type Message } from '../core/wire.ts'
import { nodePids, rootAlive } from '../linux/payload.ts'
import { isAlive, processStat } from '../linux/processes.ts'
import type { GuardLink } from '../sandbox/link.ts'
import { handleMessage } from './answer-guard.ts'
import { abandonMember, watchGuard } from './close-sandbox.ts'
import { type Context, type Sandbox, engineDirectory, rootPid } from './context.ts'
import { armDeadline } from './deadline.ts'
import { exclusively } from './exclusively.ts'
import { requeue } from './requeue.ts'
import { clearPayload, markRestored, restore } from './restore.ts'

/** The checkpoint that a crash of the daemon cut short, if there is one. */
function openCheckpoint(context: Context, runId: string): Checkpoint | undefined {
  return context.catalogue.checkpoints.ofRun(runId).findLast((c) => !['requeued', 'aborted'].includes(c.state) && !(c.state === 'sealed' && c.keep_running === 1))
}

/** CRIU goes on without us until it meets its barrier; nothing is decided before it has ended. */
async function engineEnded(checkpoint: Checkpoint): Promise<void> {
  while (checkpoint.engine_pid !== null && checkpoint.engine_start !== null && isAlive(checkpoint.engine_pid, checkpoint.engine_start)) await sleep(50)
}

/** An orphaned `criu restore` goes on without us. A live root when it has ended is a restored payload. */
async function recoverRestore(context: Context, sandbox: Sandbox, member: Member): Promise<void> {
  while (nodePids(sandbox.pid1).some((pid) => processStat(pid)?.comm === 'criu')) await sleep(50)
  if (rootAlive(sandbox.pid1, rootPid) && member.restore_from !== null) {
    markRestored(context, sandbox, member.restore_from, undefined)
    return
  }
  await clearPayload(sandbox)
  await restore(context, sandbox)
}

/** A dump that was cut short: the kernel says whether the payload lives, the catalogue whether that was decided. */
async function recoverDump(context: Context, sandbox: Sandbox, checkpoint: Checkpoint): Promise<void> {
  const barrier = await context.engine.abandonDump(engineDirectory(context, sandbox.run.job_id))
  await engineEnded(checkpoint)
  await barrier[Symbol.asyncDispose]()
  const { catalogue } = context
  if (!rootAlive(sandbox.pid1, rootPid) && checkpoint.state === 'committed') {
    catalogue.members.move(sandbox.memberId, 'held', Date.now())
    void requeue(context, sandbox, checkpoint.id).catch((error: unknown) => { context.log.error({ err: error }, 'requeue ended') })
    return
  }
  catalogue.transaction(() => {
    catalogue.checkpoints.abort(checkpoint.id, 'E_INTERNAL', 'the daemon ended in the middle of this checkpoint; the job ran on')
    catalogue.members.move(sandbox.memberId, 'running', Date.now())
  })
  context.store.remove({ job: sandbox.run.job_id, run: sandbox.run.id, checkpoint: checkpoint.number })
  sandbox.link?.send('unhold')
  armDeadline(context, sandbox)
}

async function recoverSandbox(context: Context, sandbox: Sandbox, member: Member): Promise<void> {
  if (member.state === 'restoring') {
    await recoverRestore(context, sandbox, member)
    return
  }
  const checkpoint = openCheckpoint(context, member.run_id)
  await exclusively(sandbox, async () => {
    if (checkpoint !== undefined) await recoverDump(context, sandbox, checkpoint)
  })
  if (checkpoint === undefined) armDeadline(context, sandbox)
}

/**
 * A guard has come back after a restart of the daemon.
 * @throws StintError E_NOT_VERIFIED when it is not the guard of a sandbox in the catalogue
 */
export async function attachGuard(context: Context, link: GuardLink, message: Message): Promise<void> {
  const member = context.catalogue.members.alive().find((m) => m.guard_pid === link.peer.pid && isAlive(m.guard_pid, m.guard_start))
  const run = member === undefined ? undefined : context.catalogue.runs.get(member.run_id)
  if (link.peer.uid !== 0 || member?.pid1 == null || run === undefined || run.job_id !== numberWord(message, 'job')) {
    throw new StintError('E_NOT_VERIFIED', `process ${link.peer.pid} is not the guard of a known sandbox`)
  }
  const known = context.sandboxes.get(run.job_id)
  const sandbox: Sandbox = known ?? {
    memberId: member.id, run, options: parseOptions(run.options), restarts: member.restarts, pid1: member.pid1, link, busy: false, deadline: undefined, notBefore: 0, plannedAt: undefined,
  }
  sandbox.link = link
  link.onMessage = (next) => { handleMessage(context, sandbox, next) }
  link.onClose = () => { watchGuard(context, sandbox) }
  context.sandboxes.set(run.job_id, sandbox)
  if (known !== undefined) return
  context.log.info({ job: run.job_id, state: member.state }, 'sandbox found again')
  await recoverSandbox(context, sandbox, member)
}

/** At the start: sandboxes that ended while the daemon was away are cleared; the living are expected to attach. */
export function clearEndedSandboxes(context: Context): void {
  for (const member of context.catalogue.members.alive()) {
    if (!isAlive(member.guard_pid, member.guard_start) || member.state === 'opening') abandonMember(context, member.id)
  }
}
