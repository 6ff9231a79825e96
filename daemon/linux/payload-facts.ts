import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import type { ProcessFacts, Program } from '../core/blockers.ts'
import type { ProcessPlace } from './held-process.ts'
import { sandboxProc, type PayloadProcess } from './payload.ts'
import { processStatus, statusBytes, unlessGone } from './processes.ts'
import { socketProtocol } from './socket-protocol.ts'

/** Facts of payload processes for the rules of core/blockers.ts. Only proc is read: no file of the job is opened. */

/** One limit of /proc/PID/limits, soft; infinite for `unlimited`. */
export function softLimit(limits: string, limit: string): number {
  const text = new RegExp(`^${limit}\\s+(\\S+)`, 'm').exec(limits)?.[1]
  return text === undefined || text === 'unlimited' ? Infinity : Number(text)
}

/** Threads by the 20th field of stat. */
function threadsOf(base: string): number {
  const stat = unlessGone(() => readFileSync(`${base}/stat`, 'utf8')) ?? ''
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[17] ?? 1)
}

/** Numbers of vfork and of the calls that can do the same, by architecture. */
const vforkCalls: Readonly<Record<string, readonly number[]>> = { x64: [56, 58, 435], arm64: [220, 435] }

/** Whether a thread stands in vfork: stopped for good (D) in one of its calls. Its child shares the memory, so only a parent of such is looked at. */
function waitsInVfork(base: string): boolean {
  const calls = vforkCalls[process.arch] ?? []
  return (unlessGone(() => readdirSync(`${base}/task`)) ?? []).some((thread) => {
    const stat = unlessGone(() => readFileSync(`${base}/task/${thread}/stat`, 'utf8')) ?? ''
    if (stat[stat.lastIndexOf(')') + 2] !== 'D') return false
    const call = unlessGone(() => readFileSync(`${base}/task/${thread}/syscall`, 'utf8')) ?? ''
    return calls.includes(Number.parseInt(call, 10))
  })
}

function namespacesOf(base: string): Record<string, string> {
  const names = unlessGone(() => readdirSync(`${base}/ns`)) ?? []
  return Object.fromEntries(names.flatMap((one) => {
    const link = unlessGone(() => readlinkSync(`${base}/ns/${one}`))
    return link === undefined ? [] : [[one, link] as const]
  }))
}

const deletedSuffix = ' (deleted)'

function programOf(base: string): Program | undefined {
  const link = unlessGone(() => readlinkSync(`${base}/exe`))
  const stat = unlessGone(() => statSync(`${base}/exe`))
  if (link === undefined || stat === undefined) return undefined
  return { path: link.endsWith(deletedSuffix) ? link.slice(0, -deletedSuffix.length) : link, mode: stat.mode, deleted: stat.nlink === 0 }
}

/** What rules ask of fdinfo is in it for these alone. */
const withFdinfo = /^(pipe:|pidfd:|anon_inode:\[(eventpoll|eventfd|pidfd)\])/

function numbers(text: string | undefined): number[] {
  return (text ?? '').split(/\s+/).filter((word) => word !== '').map(Number)
}

/** @returns undefined for a process that has ended meanwhile */
function factsOf(one: PayloadProcess, proc: string, memoryOfChildren: ReadonlySet<string>): ProcessFacts | undefined {
  const base = `${proc}/${one.pid}`
  const status = processStatus(one.pid, proc)
  if (status === undefined) return undefined
  const gone = one.state === 'Z'
  return {
    pid: one.pid, parent: one.parent, comm: one.comm, state: one.state, files: one.files,
    threads: threadsOf(base),
    uids: numbers(status.get('Uid')),
    namespaces: gone ? {} : namespacesOf(base),
    descriptors: one.pathless.map(({ fd, link }) => ({
      fd, link,
      fdinfo: withFdinfo.test(link) ? unlessGone(() => readFileSync(`${base}/fdinfo/${fd}`, 'utf8')) ?? '' : '',
      protocol: link.startsWith('socket:') ? socketProtocol(`${base}/fd/${fd}`) : undefined,
    })),
    highestFd: [one.pathless, one.files].flat().reduce((highest, { fd }) => Math.max(highest, fd ?? -1), -1),
    program: gone ? undefined : programOf(base),
    waitsInVfork: !gone && memoryOfChildren.has(`${one.pid} ${status.get('VmSize') ?? ''}`) && waitsInVfork(base),
    addressSpace: { used: statusBytes(status, 'VmSize'), limit: softLimit(unlessGone(() => readFileSync(`${base}/limits`, 'utf8')) ?? '', 'Max address space') },
  }
}

/** @param processes of the payload, as payloadProcesses has just found them */
export function payloadFacts(pid1: ProcessPlace, processes: readonly PayloadProcess[]): ProcessFacts[] {
  const proc = sandboxProc(pid1)
  // A child that is still in vfork has its parent's memory, and so its very size.
  const memoryOfChildren = new Set(processes.map(({ pid, parent }) => `${parent} ${processStatus(pid, proc)?.get('VmSize') ?? 'none'}`))
  return processes.flatMap((one) => {
    const facts = factsOf(one, proc, memoryOfChildren)
    return facts === undefined ? [] : [facts]
  })
}
