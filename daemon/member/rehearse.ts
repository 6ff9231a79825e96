import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { StintError, asStintError } from '../core/errors.ts'
import type { LookAnswers } from '../core/looks.ts'
import type { DumpOrder } from '../core/member.ts'
import { boundSockets, holdsLease, isOwnFault, memoryNeeded, rehearsalView, type RehearsalReport, type RehearsalView } from '../core/rehearsal.ts'
import { nodePids, payloadGroups, type PayloadProcess } from '../linux/payload.ts'
import { isBelow, mountsOf } from '../linux/mounts.ts'
import { bytesBelow } from '../linux/tree-bytes.ts'
import { ThrowAway } from '../linux/throw-away.ts'
import { unpackTree } from './archive.ts'
import { pathsForDeleted } from './deleted-names.ts'
import { type Context, type Looked, type Sandbox, engineDirectory, rootPid } from '../context.ts'

function availableBytes(): number {
  return Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024
}

/** What a restore will change or open for writing. The payload is frozen. */
function viewOf(sandbox: Looked, processes: readonly PayloadProcess[]): RehearsalView {
  const bound = boundSockets(readFileSync(`${sandbox.pid1.proc}/net/unix`, 'utf8'))
  const sockets = processes.flatMap((process) => process.sockets.flatMap((inode) => {
    const path = bound.get(inode)
    if (path === undefined || path.startsWith('/')) return path ?? []
    const cwd = process.files.find((file) => file.kind === 'directory' && file.fd === undefined)?.path ?? '/'
    return join(cwd, path)
  }))
  return rehearsalView(processes.flatMap((process) => process.files), sockets)
}

/** Why this member cannot be rehearsed now; undefined when it can. */
function obstacleOf(sandbox: Looked, processes: readonly PayloadProcess[], imageBytes: number, view: RehearsalView): string | undefined {
  if (sandbox.options.net === 'host') return "with net=host the job's ports are taken, by itself"
  if (holdsLease(readFileSync('/proc/locks', 'utf8'), nodePids(sandbox.pid1))) return 'the job holds a lease on a file, which a second opening would break'
  if (processes.some(({ anonymous }) => anonymous.some((link) => /inotify|fanotify/.test(link)))) return 'the job watches files (inotify), and would be told that they were opened'
  const mounts = mountsOf(sandbox.pid1)
  const split = view.over.find((path) => path === '/' || mounts.some(({ mountPoint }) => mountPoint !== path && isBelow(mountPoint, path)))
  if (split !== undefined) return `the job has deleted files, FIFOs or sockets in ${split}, below which other file systems are mounted`
  const [needed, available] = [memoryNeeded(imageBytes), availableBytes()]
  if (available < needed) return `${Math.round(available / 1e6)} MB of memory are free on the node, ${Math.round(needed / 1e6)} MB are needed for a second copy of the job`
  return undefined
}

/** Whether a rehearsal can be made, and what it would have to show. The payload is frozen. For helper processes (look-helper.ts) alone. */
export function rehearsalLook(sandbox: Looked, processes: readonly PayloadProcess[], imageBytes: number): LookAnswers['rehearsal'] {
  const view = viewOf(sandbox, processes)
  return { view, reason: obstacleOf(sandbox, processes, imageBytes, view) }
}

/** The course itself. @throws StintError of whatever failed */
async function restoreAndThrowAway(context: Context, sandbox: Sandbox, directory: string, view: RehearsalView, seconds: number): Promise<void> {
  const { config, commands, network, engine } = context
  const { run } = sandbox
  const workDirectory = join(engineDirectory(context, run.job_id), 'rehearsal')
  rmSync(workDirectory, { recursive: true, force: true })
  mkdirSync(workDirectory, { mode: 0o700 })
  await using place = await ThrowAway.make(commands, { nsenter: config.programs.nsenter, unshare: config.programs.unshare, init: join(config.paths.libexec_dir, 'stint-init') }, sandbox.pid1, { ...view, write: [...view.write, workDirectory] })
  await network.imitate(place.pid1, run.address, sandbox.network?.prefix.replace(/.*\//, ''))
  await unpackTree(context, { ...sandbox, pid1: place.pid1 }, directory, [])
  const groups = payloadGroups(sandbox.pid1, rootPid)
  const running = await engine.startRestore({
    paths: await pathsForDeleted(context, { ...sandbox, pid1: place.pid1 }, directory, groups, false),
    pid1: place.pid1, uid: run.uid, gid: run.gid, groups, rootPid, directory, workDirectory, cgroups: [], timeoutSeconds: seconds, rehearsal: true,
  })
  const prepared = await running.prepared
  context.fault('rehearsed')
  await prepared.abort()
  rmSync(workDirectory, { recursive: true, force: true })
}

/**
 * Restores this member's image beside the frozen payload, up to the engine's barrier, and throws that away. Its memory is charged to
 * the daemon, not to the job: a limit of the job's would be met by the second copy.
 * @param seconds it may take
 * @returns skipped with its reason where a rehearsal would harm or tells nothing
 * @throws StintError E_REHEARSAL_FAILED: this image cannot be restored
 */
export async function rehearse(context: Context, sandbox: Sandbox, order: DumpOrder, seconds: number): Promise<RehearsalReport> {
  const { dump } = sandbox
  if (dump?.row.number !== order.checkpoint) throw new StintError('E_NOT_RUNNING', `member ${sandbox.member} has no checkpoint ${order.checkpoint} in the making`)
  const started = performance.now()
  const report = (reason: string | null): RehearsalReport => ({ outcome: reason === null ? 'passed' : 'skipped', reason, seconds: (performance.now() - started) / 1000 })
  const { reason, view } = await context.look('rehearsal', sandbox, { imageBytes: await bytesBelow(dump.draft.directory) })
  if (reason !== undefined) return report(reason)
  try {
    await restoreAndThrowAway(context, sandbox, dump.draft.directory, view, seconds)
    return report(null)
  } catch (cause) {
    const error = asStintError(cause)
    context.log.warn({ err: error, job: sandbox.run.job_id, ...error.details }, 'a rehearsal did not succeed')
    if (error.code !== 'E_CRIU_RESTORE_FAILED' || isOwnFault(error.message, error.details['exitCode'])) return report(`it could not be carried out: ${error.message}`)
    throw new StintError('E_REHEARSAL_FAILED', `the checkpoint could not be restored: ${error.message}`, { cause, hint: `${error.hint} The job runs on undisturbed; this checkpoint was dropped.`, details: error.details })
  }
}
