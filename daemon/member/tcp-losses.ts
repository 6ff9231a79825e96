import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { memberAddress } from '../core/addresses.ts'
import { asStintError } from '../core/errors.ts'
import type { Obstacle } from '../core/obstacles.ts'
import { errorNotes, outsideNotes, parseFindings, unsentObstacles, urgentObstacles, type SocketFinding } from '../core/tcp-losses.ts'
import type { PayloadProcess } from '../linux/payload.ts'
import { connectionsOf, isLoopback, type Connection } from '../linux/tcp.ts'
import type { LookContext, Looked } from '../context.ts'
import { inMounts } from './archive.ts'

/** Data on its way is there within this, where the other side reads; seconds. */
const arriveSeconds = 0.5

/** What the kernel says of the payload's sockets beyond /proc. */
async function findings(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<SocketFinding[]> {
  if (processes.every((p) => p.sockets.length === 0)) return []
  const { stdout } = await context.commands.run([...inMounts(context, sandbox, 'pid'), join(context.config.paths.libexec_dir, 'stint-init'), 'sockets', ...processes.map(({ pid }) => String(pid))])
  return parseFindings(stdout)
}

/** Connections with data that is on its way and does not arrive, though there was time. */
async function lastingUnsent(sandbox: Looked, counts: (connections: readonly Connection[]) => boolean): Promise<Connection[]> {
  for (const end = Date.now() + arriveSeconds * 1000; ;) {
    const found = connectionsOf(sandbox.pid1).filter(({ unsentBytes }) => unsentBytes > 0)
    if (!counts(found) || Date.now() > end) return found
    await sleep(50)
  }
}

async function look(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<{ obstacles: Obstacle[]; notes: string[] }> {
  const { options: { net }, network, run } = sandbox
  const own = new Set([run.address, ...(network === undefined ? [] : sandbox.hosts.map((_, member) => memberAddress(network.prefix, member)))])
  const isInside = (address: string): boolean => isLoopback(address) || own.has(address)
  const found = await findings(context, sandbox, processes)
  const obstaclesOf = (unsent: readonly Connection[]): Obstacle[] => unsentObstacles(unsent, processes, net, isInside)
  const unsent = await lastingUnsent(sandbox, (connections) => obstaclesOf(connections).length + outsideNotes(connections, net, isInside).length > 0)
  return { obstacles: [...obstaclesOf(unsent), ...urgentObstacles(found, processes)], notes: [...errorNotes(found, processes), ...outsideNotes(unsent, net, isInside)] }
}

/** What a save would lose of the payload's TCP connections, and what its owner is told. A fault of the look keeps no job from being saved. */
export async function tcpLosses(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<{ obstacles: Obstacle[]; notes: string[] }> {
  try {
    return await look(context, sandbox, processes)
  } catch (error) {
    context.log.error({ err: asStintError(error), job: sandbox.run.job_id }, 'the look at TCP connections failed; going on without it')
    return { obstacles: [], notes: [] }
  }
}
