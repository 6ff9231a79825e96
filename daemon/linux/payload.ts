import { constants, readFileSync, readdirSync, readlinkSync, statSync, type Dirent } from 'node:fs'
import { lstat, readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { carriedTrees } from '../core/file-places.ts'
import { processStat, processStatus, listPids, namespaceOf, statusBytes, unlessGone } from './processes.ts'

/** An open or mapped file of a payload process. */
export interface OpenFile {
  readonly pid: number
  readonly path: string
  /** Missing for mapped files and the working directory. */
  readonly fd: number | undefined
  readonly mountId: number | undefined
  /** Number of the file system's device; 0 when unknown. */
  readonly device: number
  readonly deleted: boolean
  readonly writable: boolean
  readonly append: boolean
  readonly kind: 'file' | 'directory' | 'fifo' | 'character-device' | 'block-device' | 'other'
  readonly uid: number
  readonly bytes: number
}

/** One process of a sandbox, by the sandbox's own PIDs. */
export interface PayloadProcess {
  readonly pid: number
  readonly parent: number
  readonly comm: string
  readonly state: string
  readonly tracer: number
  readonly residentBytes: number
  readonly userNamespace: string | undefined
  readonly sockets: readonly string[]
  readonly anonymous: readonly string[]
  readonly files: readonly OpenFile[]
  /** Open descriptors without a path. */
  readonly pathless: readonly { readonly fd: number; readonly link: string }[]
}

/** The sandbox's own view of its processes: the proc file system its PID 1 mounted. */
export function sandboxProc(pid1: number): string {
  return `/proc/${pid1}/root/proc`
}

function kindOf(mode: number): OpenFile['kind'] {
  const kinds: Record<number, OpenFile['kind']> = { 0o100000: 'file', 0o040000: 'directory', 0o010000: 'fifo', 0o020000: 'character-device', 0o060000: 'block-device' }
  return kinds[mode & 0o170000] ?? 'other'
}

const deletedSuffix = ' (deleted)'

function openFile(pid: number, link: string, at: string, fd: number | undefined, fdinfo: string | undefined): OpenFile | undefined {
  const stat = unlessGone(() => statSync(at))
  if (stat === undefined) return undefined
  const flags = parseInt(/^flags:\s+(\d+)/m.exec(fdinfo ?? '')?.[1] ?? '0', 8)
  const mountId = /^mnt_id:\s+(\d+)/m.exec(fdinfo ?? '')?.[1]
  return {
    pid,
    fd,
    device: stat.dev,
    append: (flags & constants.O_APPEND) !== 0,
    path: link.endsWith(deletedSuffix) ? link.slice(0, -deletedSuffix.length) : link,
    deleted: link.endsWith(deletedSuffix) || stat.nlink === 0,
    mountId: mountId === undefined ? undefined : Number(mountId),
    writable: (flags & 0o3) !== 0,
    kind: kindOf(stat.mode),
    uid: stat.uid,
    bytes: stat.size,
  }
}

/** Descriptors and the working directory; mapped files come from the maps. */
function filesOf(pid: number, proc: string): Pick<PayloadProcess, 'files' | 'sockets' | 'anonymous' | 'pathless'> {
  const files: OpenFile[] = []
  const sockets: string[] = []
  const anonymous: string[] = []
  const pathless: PayloadProcess['pathless'][number][] = []
  const base = `${proc}/${pid}`
  for (const fd of unlessGone(() => readdirSync(`${base}/fd`)) ?? []) {
    const link = unlessGone(() => readlinkSync(`${base}/fd/${fd}`))
    if (link === undefined) continue
    if (!link.startsWith('/')) pathless.push({ fd: Number(fd), link })
    if (link.startsWith('/')) {
      const file = openFile(pid, link, `${base}/fd/${fd}`, Number(fd), unlessGone(() => readFileSync(`${base}/fdinfo/${fd}`, 'utf8')))
      if (file !== undefined) files.push(file)
    } else if (link.startsWith('socket:[')) sockets.push(link.slice(8, -1))
    else anonymous.push(link)
  }
  const cwd = unlessGone(() => readlinkSync(`${base}/cwd`))
  const cwdFile = cwd === undefined ? undefined : openFile(pid, cwd, `${base}/cwd`, undefined, undefined)
  if (cwdFile !== undefined) files.push(cwdFile)
  const mapped = new Set<string>()
  for (const line of (unlessGone(() => readFileSync(`${base}/maps`, 'utf8')) ?? '').split('\n')) {
    const match = /^\S+ (\S+) \S+ \S+ (\d+) +(\/.*)$/.exec(line)
    const [, permissions = '', inode, path = ''] = match ?? []
    const writable = permissions.includes('w') && permissions.endsWith('s')
    if (match === null || inode === '0' || mapped.has(`${writable} ${path}`)) continue
    mapped.add(`${writable} ${path}`)
    const deleted = path.endsWith(deletedSuffix)
    const plain = deleted ? path.slice(0, -deletedSuffix.length) : path
    const stat = deleted ? undefined : unlessGone(() => statSync(`${base}/root${plain}`))
    files.push({
      pid, fd: undefined, path: plain, deleted, mountId: undefined, device: stat?.dev ?? 0, kind: stat === undefined ? 'file' : kindOf(stat.mode), uid: stat?.uid ?? 0, bytes: stat?.size ?? 0, append: false, writable,
    })
  }
  return { files, sockets, anonymous, pathless }
}

/** Every process in the sandbox but its PID 1, zombies included. */
export function payloadProcesses(pid1: number): PayloadProcess[] {
  const proc = sandboxProc(pid1)
  return (unlessGone(() => listPids(proc)) ?? []).filter((pid) => pid !== 1).flatMap((pid) => {
    const [stat, status] = [processStat(pid, proc), processStatus(pid, proc)]
    if (stat === undefined || status === undefined) return []
    return [{
      pid,
      parent: stat.parent,
      comm: stat.comm,
      state: stat.state,
      tracer: Number(status.get('TracerPid') ?? 0),
      residentBytes: statusBytes(status, 'RssAnon') + statusBytes(status, 'RssShmem'),
      userNamespace: stat.state === 'Z' ? undefined : namespaceOf(pid, 'user', proc),
      ...(stat.state === 'Z' ? { files: [], sockets: [], anonymous: [], pathless: [] } : filesOf(pid, proc)),
    }]
  })
}

/** Whether the sandbox's payload root is there and no zombie. */
export function rootAlive(pid1: number, rootPid: number): boolean {
  const stat = unlessGone(() => processStat(rootPid, sandboxProc(pid1)))
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X'
}

/** Bytes that files below a directory occupy, counted one by one. */
async function occupiedBytes(directory: string): Promise<number> {
  // @NOTE An estimate: what cannot be read (it vanished, its path is too long) counts nothing, and tar will say what it cannot pack.
  const entries = await readdir(directory, { withFileTypes: true }).catch((): Dirent[] => [])
  let bytes = 0
  for (const entry of entries) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) bytes += await occupiedBytes(path)
    else if (entry.isFile()) bytes += ((await lstat(path).catch(() => undefined))?.blocks ?? 0) * 512
  }
  return bytes
}

const tmpfsMagic = 0x01021994

/** Bytes in a private tree: a tmpfs knows what it holds; a directory on disk (Slurm's making) is part of a file system with more in it. */
export async function treeBytes(tree: string): Promise<number> {
  const found = await statfs(tree).catch(() => undefined)
  if (found === undefined) return 0
  return found.type === tmpfsMagic ? (found.blocks - found.bfree) * found.bsize : occupiedBytes(tree)
}

/** A process's part of the shared memory it has mapped: over all that map a page it adds up to the page once, as it is written once. */
function sharedBytes(pid: number, proc: string): number {
  const rollup = unlessGone(() => readFileSync(`${proc}/${pid}/smaps_rollup`, 'utf8')) ?? ''
  return Number(/^Pss_Shmem:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024
}

/** Anonymous memory is written for every process that has it, what is swapped out included. */
function memoryBytes(pid: number, proc: string): number {
  const status = processStatus(pid, proc)
  if (status === undefined) return 0
  const own = statusBytes(status, 'RssAnon') + statusBytes(status, 'VmSwap')
  return statusBytes(status, 'RssShmem') === 0 ? own : own + sharedBytes(pid, proc)
}

/** What a checkpoint must write: anonymous and shared memory, and the private /tmp and /dev/shm. */
export async function payloadBytes(pid1: number): Promise<number> {
  const proc = sandboxProc(pid1)
  const memory = (unlessGone(() => listPids(proc)) ?? [])
    .filter((pid) => pid !== 1)
    .reduce((sum, pid) => sum + memoryBytes(pid, proc), 0)
  let trees = 0
  for (const tree of carriedTrees) trees += await treeBytes(`/proc/${pid1}/root${tree}`)
  return memory + trees
}

/** The payload's processes by the node's PIDs: those that share the sandbox's PID namespace, without its PID 1. */
export function nodePids(pid1: number): number[] {
  const own = namespaceOf(pid1, 'pid')
  return own === undefined ? [] : listPids().filter((pid) => pid !== pid1 && namespaceOf(pid, 'pid') === own)
}
