import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Obstacle } from '../core/obstacles.ts'
import { errorNotes, parseFindings, unsentObstacles, urgentObstacles, type SocketFinding } from '../core/tcp-losses.ts'
import { nodePids, type PayloadProcess } from '../linux/payload.ts'
import { unlessGone } from '../linux/processes.ts'
import { connectionsOf } from '../linux/tcp.ts'
import type { Context, Sandbox } from './context.ts'

/** Data on its way is there within this, where the other side reads; seconds. */
const arriveSeconds = 0.5

/** What the kernel says of the payload's sockets beyond /proc. */
async function findings(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[]): Promise<SocketFinding[]> {
  if (processes.every((p) => p.sockets.length === 0)) return []
  const inside = (pid: number): number => Number(/^NSpid:.*\s(\d+)$/m.exec(unlessGone(() => readFileSync(`/proc/${pid}/status`, 'utf8')) ?? '')?.[1] ?? 0)
  const pids = new Map(nodePids(sandbox.pid1).map((pid) => [pid, inside(pid)]))
  const { stdout } = await context.commands.run([join(context.config.paths.libexec_dir, 'stint-init'), 'sockets', ...[...pids.keys()].map(String)])
  return parseFindings(stdout, pids)
}

/** What is on its way and does not arrive, though there was time. */
async function lastingUnsent(sandbox: Sandbox, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  for (const end = Date.now() + arriveSeconds * 1000; ;) {
    const found = unsentObstacles(connectionsOf(sandbox.pid1), processes, sandbox.options.net)
    if (found.length === 0 || Date.now() > end) return found
    await sleep(50)
  }
}

/**
 * What a save would lose of the payload's TCP connections, and what its owner is told.
 */
export async function tcpLosses(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[]): Promise<{ obstacles: Obstacle[]; notes: string[] }> {
  const found = await findings(context, sandbox, processes)
  const unsent = await lastingUnsent(sandbox, processes)
  return { obstacles: [...unsent, ...urgentObstacles(found, processes)], notes: errorNotes(found, processes) }
}
