import { closeSync, constants, openSync, readFileSync, readSync, readdirSync, readlinkSync, statSync, type Dirent, type Stats } from 'node:fs'
import { lstat, readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { carriedTrees } from '../core/file-places.ts'
import { systemCode } from '../core/errors.ts'
import { LookBudget } from '../core/looks.ts'
import { HeldProcess, type ProcessPlace } from './held-process.ts'
import { processStat, processStatus, listPids, namespaceOf, statusBytes, unlessGone, type ProcessStat } from './processes.ts'

/** An open or mapped file of a payload process. */
export interface OpenFile {
  readonly pid: number
  readonly path: string
  /** Missing for mapped files and the working directory. */
  readonly fd: number | undefined
  readonly mountId: number | undefined
  /** Number of the file system's device; 0 when unknown. */
  readonly device: number
  /** 0 when unknown. */
  readonly inode: number
  readonly deleted: boolean
  readonly readable: boolean
  readonly writable: boolean
  readonly append: boolean
  /** The process holds a lease on it (fcntl F_SETLEASE) by this descriptor: whoever opens the file breaks the lease, with a signal. */
  readonly leased: boolean
  readonly kind: 'file' | 'directory' | 'fifo' | 'character-device' | 'block-device' | 'other'
  readonly uid: number
  readonly gid: number
  /** With its type. */
  readonly mode: number
  /** Names that the file has; undefined when unknown. */
  readonly links: number | undefined
  readonly bytes: number
  /** What it occupies: less than `bytes` with holes. */
  readonly occupiedBytes: number
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
  /** What it holds at a path that is longer than the kernel tells (PATH_MAX), such as `its working directory`. */
  readonly overlong: readonly string[]
  readonly threads: number
  readonly mappings: number
  /** Files and directories whose opening or reading inotify or fanotify would tell the process of. */
  readonly watched: readonly Watched[]
  /** Open descriptors without a path. */
  readonly pathless: readonly { readonly fd: number; readonly link: string }[]
}

export interface Watched {
  /** 0: of a whole mount or file system. */
  readonly inode: number
  /** As the kernel numbers it (MKDEV); undefined for a whole mount. */
  readonly device: number | undefined
}

type FilesOfProcess = Pick<PayloadProcess, 'files' | 'sockets' | 'anonymous' | 'pathless' | 'overlong' | 'mappings' | 'watched'>

/** The sandbox's own view of its processes: the proc file system its PID 1 mounted. */
export function sandboxProc({ proc }: ProcessPlace): string {
  return `${proc}/root/proc`
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
    inode: stat.ino,
    leased: /^lock:\s+\d+: LEASE /m.test(fdinfo ?? ''),
    readable: (flags & 0o3) !== constants.O_WRONLY,
    occupiedBytes: stat.blocks * 512,
    append: (flags & constants.O_APPEND) !== 0,
    path: link.endsWith(deletedSuffix) ? link.slice(0, -deletedSuffix.length) : link,
    deleted: link.endsWith(deletedSuffix) || stat.nlink === 0,
    mountId: mountId === undefined ? undefined : Number(mountId),
    writable: (flags & 0o3) !== 0,
    kind: kindOf(stat.mode),
    uid: stat.uid,
    gid: stat.gid,
    mode: stat.mode,
    links: stat.nlink,
    bytes: stat.size,
  }
}

/** Runs `read`; `otherwise` where a path is longer than the kernel takes or tells, undefined when the process has ended meanwhile. */
function unlessOverlong<T>(read: () => T, otherwise: () => void): T | undefined {
  try {
    return unlessGone(read)
  } catch (error) {
    if (systemCode(error) !== 'ENAMETOOLONG') throw error
    otherwise()
    return undefined
  }
}

/** A mapped file by its name in maps, where a newline is written as \\012, which may as well stand in a name itself. */
function mappedStat(root: string, path: string): { path: string; stat: Stats | undefined } {
  const stat = unlessGone(() => statSync(`${root}${path}`))
  const plain = path.replaceAll('\\012', '\n')
  return stat !== undefined || plain === path ? { path, stat } : { path: plain, stat: unlessGone(() => statSync(`${root}${plain}`)) }
}

/** A deleted file that is mapped has no name any more; the kernel still leads to it. @param line of maps */
function deletedStat(base: string, line: string): Stats | undefined {
  try {
    return unlessGone(() => statSync(`${base}/map_files/${plainRange(line.slice(0, line.indexOf(' ')))}`))
  } catch {
    return undefined // @NOTE Some kernels let nobody follow these links; its size then counts when the file is open as well.
  }
}

/** In map_files addresses have no leading zeros. */
function plainRange(range: string): string {
  return range.split('-').map((address) => address.replace(/^0+(?=.)/, '')).join('-')
}

/** IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN; fanotify's events have the same bits. */
const readingEvents = 0x31

/** @param fdinfo of an inotify or fanotify descriptor: `inotify wd:1 ino:2a sdev:fd00001 mask:fff ...`, `fanotify mnt_id:1c mflags:0 mask:20 ...` */
export function watchedFiles(fdinfo: string): Watched[] {
  return fdinfo.split('\n').flatMap((line) => {
    const mask = /^(?:inotify|fanotify) .*\bmask:([\da-f]+)/.exec(line)?.[1]
    if (mask === undefined || (parseInt(mask, 16) & readingEvents) === 0) return []
    const device = / sdev:([\da-f]+)/.exec(line)?.[1]
    return [{ inode: parseInt(/ ino:([\da-f]+)/.exec(line)?.[1] ?? '0', 16), device: device === undefined ? undefined : parseInt(device, 16) }]
  })
}

/** A device as the kernel numbers it. @param device as stat(2) does */
function kernelDevice(device: number): number {
  const [major, minor] = [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)]
  return major * 2 ** 20 + minor
}

/** Whether a process watches anything on the file systems of the private trees for being opened or read. */
export function watchesTrees(pid1: ProcessPlace, processes: readonly PayloadProcess[]): boolean {
  const watched = processes.flatMap((process) => process.watched)
  if (watched.length === 0) return false
  const devices = new Set(carriedTrees.map((tree) => unlessGone(() => statSync(`${pid1.proc}/root${tree}`))).flatMap((stat) => (stat === undefined ? [] : [kernelDevice(stat.dev)])))
  return watched.some(({ device }) => device === undefined || devices.has(device))
}

const fdinfoBuffer = Buffer.allocUnsafe(64 * 1024)

/** What the kernel says of a descriptor; a process may have thousands, so in as few calls as can be. Cut off beyond 64 KiB. */
function readFdinfo(path: string): string | undefined {
  const fd = unlessGone(() => openSync(path, 'r'))
  if (fd === undefined) return undefined
  try {
    return fdinfoBuffer.toString('latin1', 0, unlessGone(() => readSync(fd, fdinfoBuffer, 0, fdinfoBuffer.length, 0)) ?? 0)
  } finally {
    closeSync(fd)
  }
}

/** Descriptors and the working directory; mapped files come from the maps. */
function filesOf(pid: number, proc: string, budget: LookBudget): FilesOfProcess {
  const overlong: string[] = []
  const files: OpenFile[] = []
  const sockets: string[] = []
  const anonymous: string[] = []
  const watched: Watched[] = []
  const pathless: PayloadProcess['pathless'][number][] = []
  const base = `${proc}/${pid}`
  const descriptors = unlessGone(() => readdirSync(`${base}/fd`)) ?? []
  budget.take(descriptors.length)
  for (const fd of descriptors) {
    const link = unlessOverlong(() => readlinkSync(`${base}/fd/${fd}`), () => { overlong.push(`its descriptor ${fd}`) })
    if (link === undefined) continue
    if (!link.startsWith('/')) pathless.push({ fd: Number(fd), link })
    if (link.startsWith('/')) {
      const file = openFile(pid, link, `${base}/fd/${fd}`, Number(fd), readFdinfo(`${base}/fdinfo/${fd}`))
      if (file !== undefined) files.push(file)
    } else if (link.startsWith('socket:[')) sockets.push(link.slice(8, -1))
    else {
      anonymous.push(link)
      if (/^anon_inode:(inotify|\[fanotify\])$/.test(link)) watched.push(...watchedFiles(unlessGone(() => readFileSync(`${base}/fdinfo/${fd}`, 'utf8')) ?? ''))
    }
  }
  unlessOverlong(() => readlinkSync(`${base}/exe`), () => { overlong.push('its program') })
  const cwd = unlessOverlong(() => readlinkSync(`${base}/cwd`), () => { overlong.push('its working directory') })
  const cwdFile = cwd === undefined ? undefined : openFile(pid, cwd, `${base}/cwd`, undefined, undefined)
  if (cwdFile !== undefined) files.push(cwdFile)
  const mapped = new Set<string>()
  const maps = (unlessGone(() => readFileSync(`${base}/maps`, 'utf8')) ?? '').split('\n')
  budget.take(Math.ceil(maps.length / linesPerObject))
  for (const line of maps) {
    const match = /^\S+ (\S+) \S+ \S+ (\d+) +(\/.*)$/.exec(line)
    const [, permissions = '', inode, path = ''] = match ?? []
    const writable = permissions.includes('w') && permissions.endsWith('s')
    if (match === null || inode === '0' || mapped.has(`${writable} ${path}`)) continue
    mapped.add(`${writable} ${path}`)
    budget.take(1)
    const deleted = path.endsWith(deletedSuffix)
    const named = deleted ? path.slice(0, -deletedSuffix.length) : path
    const found = deleted ? undefined : unlessOverlong(() => mappedStat(`${base}/root`, named), () => { overlong.push('a mapped file') })
    const stat = deleted ? deletedStat(base, line) : found?.stat
    files.push({
      pid, fd: undefined, path: found?.path ?? named, deleted, mountId: undefined, device: stat?.dev ?? 0, kind: stat === undefined ? 'file' : kindOf(stat.mode), uid: stat?.uid ?? 0, gid: stat?.gid ?? 0, mode: stat?.mode ?? 0, links: stat?.nlink, bytes: stat?.size ?? 0, append: false, writable,
      inode: Number(inode), leased: false, readable: true, occupiedBytes: (stat?.blocks ?? 0) * 512,
    })
  }
  return { files, sockets, anonymous, pathless, overlong, watched, mappings: maps.length - 1 }
}

/** So many lines of maps cost as much as one open file, as most need no look. */
const linesPerObject = 20

/** How many descriptors a process has; 0 on kernels before 6.2, which do not say. */
function descriptorCount(pid: number, proc: string): number {
  return unlessGone(() => statSync(`${proc}/${pid}/fd`))?.size ?? 0
}

/**
 * Every process in the sandbox but its PID 1, zombies included.
 * @throws StintError E_PREFLIGHT when there is more than the budget allows, before much of it was looked at where the kernel tells
 */
export function payloadProcesses(pid1: ProcessPlace, budget = new LookBudget()): PayloadProcess[] {
  const proc = sandboxProc(pid1)
  const pids = (unlessGone(() => listPids(proc)) ?? []).filter((pid) => pid !== 1)
  budget.foresee(pids.length + pids.reduce((sum, pid) => sum + descriptorCount(pid, proc), 0))
  budget.take(pids.length)
  return pids.flatMap((pid) => {
    const [stat, status] = [processStat(pid, proc), processStatus(pid, proc)]
    if (stat === undefined || status === undefined) return []
    const threads = Number(status.get('Threads') ?? 1)
    budget.take(threads - 1)
    return [{
      pid,
      parent: stat.parent,
      comm: stat.comm,
      state: stat.state,
      tracer: Number(status.get('TracerPid') ?? 0),
      residentBytes: statusBytes(status, 'RssAnon') + statusBytes(status, 'RssShmem'),
      userNamespace: stat.state === 'Z' ? undefined : namespaceOf(pid, 'user', proc),
      threads,
      ...(stat.state === 'Z' ? { files: [], sockets: [], anonymous: [], pathless: [], overlong: [], watched: [], mappings: 0 } : filesOf(pid, proc, budget)),
    }]
  })
}

/** Supplementary groups of the payload, as Slurm gave them to its root, which is a program of ours. */
export function payloadGroups(pid1: ProcessPlace, rootPid: number): number[] {
  const groups = processStatus(rootPid, sandboxProc(pid1))?.get('Groups') ?? ''
  return groups.split(/\s+/).filter((group) => group !== '').map(Number)
}

/** Whether the sandbox's payload root is there and no zombie. */
export function rootAlive(pid1: ProcessPlace, rootPid: number): boolean {
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

/**
 * A directory in a tree that lies deeper than any program can name it (PATH_MAX), by its first 200 bytes; undefined when there is none. Its
 * names need not be text.
 * @param budget directories that are looked at, at most: those after them are taken to be short enough
 */
export async function overlongBelow(directory: Buffer, budget = { directories: Infinity }): Promise<string | undefined> {
  if (--budget.directories < 0) return undefined
  const entries = await readdir(directory, { withFileTypes: true, encoding: 'buffer' }).catch((error: unknown) => (systemCode(error) === 'ENAMETOOLONG' ? undefined : []))
  if (entries === undefined) return `${directory.subarray(0, 200).toString()}...`
  for (const entry of entries) {
    const found = entry.isDirectory() ? await overlongBelow(Buffer.concat([directory, Buffer.from('/'), entry.name]), budget) : undefined
    if (found !== undefined) return found
  }
  return undefined
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
  const own = statusBytes(status, 'RssAnon') + statusBytes(status, 'VmSwap') + statusBytes(status, 'HugetlbPages')
  return statusBytes(status, 'RssShmem') === 0 ? own : own + sharedBytes(pid, proc)
}

/** The file systems of the private trees, where they are tmpfs: what is deleted there is counted with them. */
async function countedDevices(pid1: ProcessPlace): Promise<ReadonlySet<number>> {
  const devices = await Promise.all(carriedTrees.map(async (tree) => {
    const path = `${pid1.proc}/root${tree}`
    const found = await statfs(path).catch(() => undefined)
    return found?.type === tmpfsMagic ? [statSync(path).dev] : []
  }))
  return new Set(devices.flat())
}

/**
 * Deleted files that are open or mapped: CRIU puts what they hold into the image (`--ghost-limit`). Memory files (memfd) are counted as memory
 * where a process has them mapped.
 */
export async function ghostBytes(pid1: ProcessPlace, processes: readonly PayloadProcess[]): Promise<number> {
  const files = processes.flatMap((process) => process.files)
  const isMemory = (file: OpenFile): boolean => file.path.startsWith('/memfd:')
  const isSharedMemory = (file: OpenFile): boolean => isMemory(file) || /^\/(dev\/zero|SYSV[0-9a-f]+|\[aio\])$/.test(file.path)
  const ghosts = files.filter((file) => file.deleted && file.kind === 'file' && (file.fd !== undefined || !isSharedMemory(file)))
  if (ghosts.length === 0) return 0
  const counted = await countedDevices(pid1)
  const mapped = new Set(files.filter((file) => file.fd === undefined && isMemory(file)).map((file) => file.inode))
  const sizes = new Map(ghosts
    .filter((file) => !counted.has(file.device) && !(isMemory(file) && mapped.has(file.inode)))
    .map((file) => [`${file.device}:${file.inode}`, file.occupiedBytes]))
  return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0)
}

/** What a checkpoint must write: anonymous and shared memory, and the private /tmp and /dev/shm. */
export async function payloadBytes(pid1: ProcessPlace): Promise<number> {
  const proc = sandboxProc(pid1)
  const memory = (unlessGone(() => listPids(proc)) ?? [])
    .filter((pid) => pid !== 1)
    .reduce((sum, pid) => sum + memoryBytes(pid, proc), 0)
  let trees = 0
  for (const tree of carriedTrees) trees += await treeBytes(`${pid1.proc}/root${tree}`)
  return memory + trees
}

/** So many processes are looked at before the event loop gets its turn. */
const processesInOneGo = 256

/** The same as {@link nodePids}, with a pause for the event loop now and then: a node may have thousands of processes. */
export async function nodePidsInTurn(pid1: HeldProcess): Promise<number[]> {
  const own = pid1.namespace('pid')
  if (own === undefined) return []
  const found: number[] = []
  for (const [at, pid] of listPids().entries()) {
    if (at % processesInOneGo === processesInOneGo - 1) await nextTurn()
    if (pid !== pid1.pid && namespaceOf(pid, 'pid') === own) found.push(pid)
  }
  return found
}

/**
 * The payload's processes as the node counts: those that share the sandbox's PID namespace, without its PID 1. Good for looking: their
 * numbers may be others' a moment later.
 */
export function nodePids(pid1: HeldProcess): number[] {
  const own = pid1.namespace('pid')
  return own === undefined ? [] : listPids().filter((pid) => pid !== pid1.pid && namespaceOf(pid, 'pid') === own)
}

/** Engines in a sandbox, as the node counts: processes with this name whose real user is root, as no process of the job is. */
export async function enginesIn(pid1: HeldProcess, name: string): Promise<ProcessStat[]> {
  return (await nodePidsInTurn(pid1)).flatMap((pid) => {
    using held = HeldProcess.open(pid)
    const stat = held.stat()
    return stat?.comm === name && isInside(held, pid1) && held.realUid === 0 ? [stat] : []
  })
}

function isInside(held: HeldProcess, pid1: HeldProcess): boolean {
  const own = pid1.namespace('pid')
  return own !== undefined && held.namespace('pid') === own
}

/**
 * Kills what is in a sandbox but its PID 1. Each process is held before it is looked at, and killed by that.
 * @returns how many there were
 * @throws StintError E_NOT_VERIFIED when the PID namespace is the node's own
 */
export async function killPayload(pid1: HeldProcess): Promise<number> {
  if (!pid1.isAlive) return 0
  pid1.enter('pid')
  const pids = await nodePidsInTurn(pid1)
  for (const pid of pids) {
    using held = HeldProcess.open(pid)
    if (isInside(held, pid1)) held.signal('SIGKILL')
  }
  return pids.length
}
