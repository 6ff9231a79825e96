import { readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { deletedNotice, deletedObstacles, otherPath, readNameState, type DeletedFile, type NameState } from '../core/deleted-names.ts'
import { asStintError } from '../core/errors.ts'
import { insideTree, type Obstacle } from '../core/obstacles.ts'
import { boundUnixSockets } from '../core/unix-sockets.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import { payloadGroups, sandboxProc, type OpenFile, type PayloadProcess } from '../linux/payload.ts'
import { unlessGone } from '../linux/processes.ts'
import { type Context, type LookContext, type Looked, type Sandbox, rootPid } from '../context.ts'
import { inMounts, withoutRights } from './archive.ts'
import { tellNotices } from './ledger.ts'

/** Seconds the helper may take: a file system that does not answer. */
const helperSeconds = 30
/** Where names are made that the user may make nowhere else: the sandbox's own. */
const places = ['/tmp', '/dev/shm'] as const

/** Asks as the user. @param paths their bytes as latin1 @throws StintError E_COMMAND_FAILED */
async function nameStates(context: LookContext, sandbox: Looked, groups: readonly number[], paths: readonly string[]): Promise<NameState[]> {
  if (paths.length === 0) return []
  const { stdout } = await context.commands.run(
    [...inMounts(context, sandbox), ...withoutRights(context, sandbox, groups), join(context.config.paths.libexec_dir, 'stint-init'), 'files'],
    { input: Buffer.from(paths.map((path) => `names\0${path}\0`).join(''), 'latin1'), timeoutSeconds: helperSeconds },
  )
  const answers = stdout.split('\0')
  return paths.map((_, at) => readNameState(answers[at]))
}

/** Kernel files without a place in the sandbox, and what dies with a process. */
function isFile(file: OpenFile): boolean {
  return file.kind === 'file' && file.deleted && !/^\/(memfd:|dev\/zero$|SYSV|secretmem$|anon_hugepage|\[aio\])/.test(file.path) && !file.path.startsWith('/proc/')
}

async function find(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  const payload = insideTree(processes, rootPid)
  const named = new Map(payload.map(({ pid, comm }) => [pid, comm]))
  const files = payload.flatMap((process) => process.files).filter((file) => isFile(file) && file.links !== undefined)
  if (files.length === 0) return []
  const groups = payloadGroups(sandbox.pid1, rootPid)
  const byInode = [...Map.groupBy(files, ({ device, inode }) => `${device}:${inode}`).values()]
  const states = await nameStates(context, sandbox, groups, byInode.map(([file]) => Buffer.from(file?.path ?? '').toString('latin1')))
  const deleted = byInode.flatMap((holders, at): DeletedFile[] => {
    const [first] = holders
    if (first === undefined) return []
    return [{
      path: first.path, pid: first.pid, comm: named.get(first.pid) ?? '?', links: first.links ?? 0, written: holders.some(({ writable }) => writable),
      mode: first.mode, uid: first.uid, gid: first.gid, bytes: first.occupiedBytes, state: states[at] ?? 'closed',
    }]
  })
  return deletedObstacles(deleted, { uid: sandbox.run.uid, gid: sandbox.run.gid, groups }, context.config.files.carry_limit_mb * 1e6)
}

interface BoundSocket {
  /** Absolute; its bytes as latin1. */
  readonly path: string
  readonly process: PayloadProcess
  /** The name it was bound by is relative, and leads nowhere from any of its holders. */
  readonly lost: boolean
  /** CRIU makes its name again: not for a connection that was accepted, which has its listener's name. */
  readonly made: boolean
}

function isSocket(sandbox: Looked, path: string): boolean {
  return unlessGone(() => statSync(Buffer.from(`${sandbox.pid1.proc}/root${path}`, 'latin1')))?.isSocket() === true
}

/** Bound sockets of the payload. */
function boundSockets(sandbox: Looked, processes: readonly PayloadProcess[]): BoundSocket[] {
  const held = insideTree(processes, rootPid).flatMap((process) => process.sockets.map((inode) => ({ inode, process })))
  const holders = Map.groupBy(held, ({ inode }) => inode)
  const table = unlessGone(() => readFileSync(`${sandbox.pid1.proc}/net/unix`, 'latin1')) ?? ''
  return boundUnixSockets(table).flatMap(({ inode, type, state, path: name }): BoundSocket[] => {
    const its = holders.get(inode)?.map(({ process }) => process) ?? []
    const [first] = its
    if (first === undefined) return []
    const made = type === '0002' || state !== '03'
    if (name.startsWith('/')) return [{ path: name, process: first, lost: false, made }]
    const paths = its.flatMap(({ pid }) => {
      const cwd = unlessGone(() => readlinkSync(`${sandboxProc(sandbox.pid1)}/${pid}/cwd`, 'latin1'))
      return cwd === undefined ? [] : [`${cwd}/${name}`]
    })
    const path = paths.find((one) => isSocket(sandbox, one))
    return [{ path: path ?? paths[0] ?? name, process: first, lost: path === undefined, made }]
  })
}

/** A name that is there must be removed and made again: where the user may not, nobody would find the socket. */
async function findSockets(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  const sockets = boundSockets(sandbox, processes)
  const there = sockets.filter(({ path, lost, made }) => made && !lost && isSocket(sandbox, path)).map(({ path }) => path)
  const states = await nameStates(context, sandbox, payloadGroups(sandbox.pid1, rootPid), there)
  const closed = new Set(there.filter((_, at) => states[at] === 'closed'))
  return sockets.flatMap(({ path, process: { comm, pid }, lost, made }): Obstacle[] => {
    const which = `${comm} (PID ${pid} in the sandbox) has a socket named ${Buffer.from(path, 'latin1').toString()}`
    if (lost) {
      return [{
        kind: 'socket-name', message: `${which}, by a relative name that was removed or is looked for in another directory now: CRIU cannot tell where it was`,
        remedy: 'Let the program bind its socket by an absolute path, or close it before the job is saved.',
      }]
    }
    if (!made || !closed.has(path)) return []
    return [{
      kind: 'socket-name', message: `${which}, in a directory where you may not write any more: its name could not be made again`,
      remedy: 'Get write permission for the directory, or remove the name if nobody connects to it any more.',
    }]
  })
}

/** What of removed names stands in the way. A fault of the look keeps no job from being saved. */
export async function deletedNameObstacles(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): Promise<Obstacle[]> {
  const found = await Promise.allSettled([find(context, sandbox, processes), findSockets(context, sandbox, processes)])
  return found.flatMap((one) => {
    if (one.status === 'fulfilled') return one.value
    context.log.error({ err: asStintError(one.reason), job: sandbox.run.job_id }, 'the look for removed names failed; going on without it')
    return []
  })
}

/** A private directory from which programs may be mapped, where there is one. */
function placeFor(sandbox: Looked): string {
  const mounts = mountsOf(sandbox.pid1)
  return places.find((place) => mountOfPath(mounts, place)?.options.includes('noexec') !== true) ?? places[0]
}

/**
 * Where the engine is to make what has no name any more: elsewhere, where the user may make none. Tells what differs then.
 * @param groups supplementary ones of the user
 * @returns other paths by the engine's ids, and what belongs to the user now by its own
 */
export async function pathsForDeleted(context: Context, sandbox: Sandbox, directory: string, groups: readonly number[], tell: boolean): Promise<ReadonlyMap<number, string>> {
  const { uid, gid } = sandbox.run
  const names = await context.engine.deletedNames(directory)
  if (names.length === 0) return new Map()
  const states = await nameStates(context, sandbox, groups, names.map(({ path }) => path))
  const place = placeFor(sandbox)
  const numbers = new Map([...new Set(names.map(({ path }) => path))].map((path, at) => [path, at]))
  const paths = new Map<number, string>()
  const notices = names.flatMap((name, at) => {
    const moved = otherPath(name, states[at] ?? 'closed', place, numbers.get(name.path) ?? 0)
    const foreign = name.uid !== undefined && (name.uid !== uid || ![gid, ...groups].includes(name.gid ?? gid))
    if (moved !== undefined) paths.set(name.id, moved)
    // CRIU compares modes, and a copy may not keep its set-group-ID bit.
    else if (foreign) paths.set(name.id, name.path)
    const text = (path: string): string => Buffer.from(path, 'latin1').toString()
    return deletedNotice(text(name.path), moved === undefined ? undefined : text(moved), name.uid !== undefined && name.uid !== uid) ?? []
  })
  if (tell) tellNotices(context, sandbox, [...new Set(notices)])
  return paths
}
