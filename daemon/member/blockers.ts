import { readFileSync } from 'node:fs'
import { blockersOf } from '../core/blockers.ts'
import { asStintError } from '../core/errors.ts'
import { insideTree, type Obstacle } from '../core/obstacles.ts'
import { ownCapabilities } from '../linux/capabilities.ts'
import { mountsOf } from '../linux/mounts.ts'
import type { PayloadProcess } from '../linux/payload.ts'
import { payloadFacts, softLimit } from '../linux/payload-facts.ts'
import { processStat } from '../linux/processes.ts'
import { tcpListeners } from '../linux/tcp.ts'
import { unixListeners } from '../linux/unix-listeners.ts'
import { type Context, type Sandbox, rootPid } from '../context.ts'

/** Descriptors CRIU may have: as many as the kernel allows where it may raise its limit, else what it inherits from this daemon. */
function descriptorLimit(): number {
  const path = ownCapabilities().has('sys_resource') ? '/proc/sys/fs/nr_open' : '/proc/self/limits'
  const text = readFileSync(path, 'utf8')
  return path === '/proc/self/limits' ? softLimit(text, 'Max open files') : Number(text)
}

/** Whether the guard is stopped. One that has ended is found otherwise. */
function isGuardStopped(context: Context, sandbox: Sandbox): boolean {
  const { guard_pid: pid, guard_start: startTime } = context.catalogue.members.require(sandbox.memberId)
  const stat = processStat(pid)
  return stat?.startTime === startTime && (stat.state === 'T' || stat.state === 't')
}

async function look(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  const { pid1, run } = sandbox
  return blockersOf(payloadFacts(pid1, insideTree(processes, rootPid)), {
    rootPid, uid: run.uid, jobId: run.job_id,
    descriptorLimit: descriptorLimit(),
    mounts: new Map(mountsOf(pid1).map(({ id, type, mountPoint }) => [id, { type, mountPoint }])),
    guardStopped: isGuardStopped(context, sandbox),
    listeners: [...tcpListeners(pid1), ...await unixListeners(context.commands, context.config.programs, pid1)],
  })
}

/** What CRIU would refuse, and what it could not restore, by the rules of core/blockers.ts. A fault of the look keeps no job from being saved. */
export async function lookForBlockers(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  try {
    return await look(context, sandbox, processes)
  } catch (error) {
    context.log.error({ err: asStintError(error), job: sandbox.run.job_id }, 'the look for what cannot be saved failed; going on without it')
    return []
  }
}
