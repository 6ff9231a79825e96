import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { systemCode } from '../core/errors.ts'

/** Codes that mean "this process is gone", not "something is wrong". */
const gone = new Set(['ENOENT', 'ESRCH'])

/** Runs `read`; undefined when the process has ended meanwhile. */
export function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (gone.has(systemCode(error) ?? '')) return undefined
    throw error
  }
}

export interface ProcessStat {
  readonly pid: number
  readonly comm: string
  readonly state: string
  readonly parent: number
  /** Clock ticks after boot: with the pid it names one process for ever. */
  readonly startTime: number
}

/** @param proc a proc file system: `/proc`, or a sandbox's own seen through its PID 1's root */
export function processStat(pid: number, proc = '/proc'): ProcessStat | undefined {
  const text = unlessGone(() => readFileSync(`${proc}/${pid}/stat`, 'utf8'))
  return text === undefined ? undefined : parseStat(pid, text)
}

/** @param text of /proc/PID/stat: a name may have blanks and parentheses in it */
export function parseStat(pid: number, text: string): ProcessStat {
  const close = text.lastIndexOf(')')
  const rest = text.slice(close + 2).split(' ')
  return { pid, comm: text.slice(text.indexOf('(') + 1, close), state: rest[0] ?? '?', parent: Number(rest[1]), startTime: Number(rest[19]) }
}

/** Whether this very process (not a later one with its pid) still runs; a zombie does not. */
export function isAlive(pid: number, startTime: number): boolean {
  const stat = processStat(pid)
  return stat !== undefined && stat.startTime === startTime && stat.state !== 'Z' && stat.state !== 'X'
}

export function listPids(proc = '/proc'): number[] {
  return readdirSync(proc).filter((name) => /^\d+$/.test(name)).map(Number)
}

/** Fields of /proc/PID/status; kB values stay text. */
export function processStatus(pid: number, proc = '/proc'): ReadonlyMap<string, string> | undefined {
  const text = unlessGone(() => readFileSync(`${proc}/${pid}/status`, 'utf8'))
  if (text === undefined) return undefined
  return new Map(text.split('\n').flatMap((line) => (line.includes(':') ? [[line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const] : [])))
}

export function statusBytes(status: ReadonlyMap<string, string>, field: string): number {
  return Number.parseInt(status.get(field) ?? '0', 10) * 1024
}

/** A namespace's identity, such as `net:[4026531840]`. */
export function namespaceOf(pid: number, kind: 'pid' | 'mnt' | 'net' | 'ipc' | 'uts' | 'user', proc = '/proc'): string | undefined {
  return unlessGone(() => readlinkSync(`${proc}/${pid}/ns/${kind}`))
}

/** Whether `pid` has `ancestor` among its parents. */
export function descendsFrom(pid: number, ancestor: number, proc = '/proc'): boolean {
  for (let at = pid, steps = 0; at > 1 && steps < 1000; steps++) {
    if (at === ancestor) return true
    at = processStat(at, proc)?.parent ?? 0
  }
  return false
}
