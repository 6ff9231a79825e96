import { readFileSync } from 'node:fs'
import { blockersOf } from '../core/blockers.ts'
import { asStintError } from '../core/errors.ts'
import { insideTree, type Obstacle } from '../core/obstacles.ts'
import { ownCapabilities } from '../linux/capabilities.ts'
import { mountsOf } from '../linux/mounts.ts'
import type { PayloadProcess } from '../linux/payload.ts'
import { payloadFacts, softLimit } from '../linux/payload-facts.ts'
import { tcpListeners } from '../linux/tcp.ts'
import { unixListeners } from '../linux/unix-listeners.ts'
import { type LookContext, type Looked, rootPid } from '../context.ts'

/** Descriptors CRIU may have: as many as the kernel allows where it may raise its limit, else what it inherits from this daemon. */
function descriptorLimit(): number {
  const path = ownCapabilities().has('sys_resource') ? '/proc/sys/fs/nr_open' : '/proc/self/limits'
  const text = readFileSync(path, 'utf8')
  return path === '/proc/self/limits' ? softLimit(text, 'Max open files') : Number(text)
}

async function look(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[], guardStopped: boolean): Promise<Obstacle[]> {
  const { pid1, run } = sandbox
  return blockersOf(payloadFacts(pid1, insideTree(processes, rootPid)), {
    rootPid, uid: run.uid, jobId: run.job_id,
    descriptorLimit: descriptorLimit(),
    mounts: new Map(mountsOf(pid1).map(({ id, type, mountPoint }) => [id, { type, mountPoint }])),
    guardStopped,
    listeners: [...tcpListeners(pid1), ...await unixListeners(context.commands, context.config.programs, pid1)],
  })
}

/** What CRIU would refuse, and what it could not restore, by the rules of core/blockers.ts. A fault of the look keeps no job from being saved. */
export async function lookForBlockers(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[], guardStopped: boolean): Promise<Obstacle[]> {
  try {
    return await look(context, sandbox, processes, guardStopped)
  } catch (error) {
    context.log.error({ err: asStintError(error), job: sandbox.run.job_id }, 'the look for what cannot be saved failed; going on without it')
    return []
  }
}
