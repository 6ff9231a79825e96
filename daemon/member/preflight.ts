import { statSync } from 'node:fs'
import { connectionObstacles, insideTree, landlockObstacles, leaseObstacles, outsideTree, processObstacles, type Obstacle } from '../core/obstacles.ts'
import { carriedTrees, isBelowAny, placeOf } from '../core/file-places.ts'
import { StintError } from '../core/errors.ts'
import type { MemberObservation } from '../core/member.ts'
import { clockTime } from '../core/save-failure.ts'
import { assumedSeconds, predict, type DeadlineRules, type Objects, type Prediction } from '../core/deadline.ts'
import { isFrozen } from '../linux/cgroups.ts'
import { landlocked } from '../linux/landlock.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import { ghostBytes, payloadBytes, payloadProcesses, type OpenFile, type PayloadProcess } from '../linux/payload.ts'
import { namespaceOf } from '../linux/processes.ts'
import { connectionsOf, isLoopback } from '../linux/tcp.ts'
import { lookForBlockers } from './blockers.ts'
import { treeObstacles } from './archive.ts'
import { scriptObstacles } from './job-script.ts'
import { type Context, type Sandbox, rootPid } from '../context.ts'
import { ledgerObstacles, tellKeys } from './ledger.ts'
import { fileRules } from '../images/locality.ts'
import { rollbackCost } from './file-rollback.ts'
import { tcpLosses } from './tcp-losses.ts'

export function deadlineRules(context: Context): DeadlineRules {
  const { deadline } = context.config
  return { safety: deadline.safety, marginSeconds: deadline.margin_seconds, assumedBytesPerSecond: deadline.assumed_mb_per_second * 1e6 }
}

/** @param copies files that are put on record because they are open for writing */
export function countObjects(sandbox: Sandbox, processes: readonly PayloadProcess[], copies: number): Objects {
  const payload = insideTree(processes, rootPid)
  const sum = (count: (process: PayloadProcess) => number): number => payload.reduce((total, process) => total + count(process), 0)
  return {
    processes: payload.length, copies, connections: connectionsOf(sandbox.pid1).length,
    threads: sum((process) => process.threads), mappings: sum((process) => process.mappings),
    files: sum((process) => process.files.filter((file) => file.fd !== undefined).length + process.sockets.length + process.anonymous.length),
  }
}

/** The job script travels with the image. */
function scriptBytes(sandbox: Sandbox): number {
  return sandbox.run.script === '' ? 0 : statSync(`/proc/${sandbox.pid1}/root${sandbox.run.script}`, { throwIfNoEntry: false })?.size ?? 0
}

/** Bytes a checkpoint must write now, and how long that should take with what it must only read. */
async function predictFor(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[], carried: { paths: readonly string[]; bytes: number }): Promise<{ bytes: number; prediction: Prediction }> {
  const { copied, cloned, files } = rollbackCost(context, sandbox, processes, carried.paths)
  const bytes = await payloadBytes(sandbox.pid1) + await ghostBytes(sandbox.pid1, processes) + scriptBytes(sandbox) + carried.bytes + copied
  const objectSeconds = assumedSeconds(countObjects(sandbox, processes, files))
  return { bytes, prediction: predict(bytes + cloned, objectSeconds, context.catalogue.throughput.recent(context.store.name), deadlineRules(context)) }
}

function others(context: Context, sandbox: Sandbox): Sandbox[] {
  return [...context.sandboxes.values()].filter((other) => other !== sandbox)
}

/**
 * What other runs of this node need that will be written in the time in which this one is, seconds.
 * @param from when this one is to be saved, by its last plan, and `to` its end, milliseconds since 1970
 */
export function besideSeconds(context: Context, sandbox: Sandbox, from: number, to: number): number {
  return others(context, sandbox).reduce((sum, { memberId, plan, plannedAt }) => {
    const { end_time: end, state } = context.catalogue.members.require(memberId)
    const meets = plan !== undefined && plannedAt !== undefined && end !== null && (state === 'running' || state === 'dumping') && plannedAt < to && from < end
    return meets ? sum + plan.prediction.seconds : sum
  }, 0)
}

/** Bytes that other runs of this node are writing now: a share of what the store took meanwhile. */
export function bytesBeside(context: Context, sandbox: Sandbox): number {
  return others(context, sandbox).reduce((sum, other) => (other.busy ? sum + (other.plan?.prediction.bytes ?? 0) : sum), 0)
}

/** Sorts the payload's open files into those that need nothing, those that are carried, and obstacles. */
function judgeFiles(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[]): { carried: string[]; carriedBytes: number; obstacles: Obstacle[] } {
  const rules = fileRules(context)
  const mounts = mountsOf(sandbox.pid1)
  const obstacles: Obstacle[] = []
  const carried = new Map<string, OpenFile>()
  // Slurm truncates these when the job starts again; their content comes back from the image.
  const truncated = new Set(JSON.parse(sandbox.run.outputs) as string[])
  for (const file of processes.flatMap((p) => p.files)) {
    const own = mounts.find((m) => m.id === file.mountId)
    // On no mount of the sandbox: its path means another file here, and is a blocker of its own.
    if (file.mountId !== undefined && own === undefined) continue
    const mount = own ?? mountOfPath(mounts, file.path)
    if (file.kind === 'character-device' && !/^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/ptmx|pts\/\d+)$/.test(file.path)) {
      obstacles.push({ kind: 'device', message: `the device ${file.path} is open (PID ${file.pid})`, remedy: 'CRIU cannot save devices; for MPI choose TCP and shared memory (UCX_TLS=tcp,self,sysv,posix, FI_PROVIDER=tcp).' })
      continue
    }
    if (truncated.has(file.path) && !file.deleted) {
      carried.set(file.path, file)
      continue
    }
    if (file.path === sandbox.run.script || placeOf(file.path, mount?.type, file.writable, rules) !== 'local') continue
    // A deleted file's content is in the image already (CRIU's ghost files).
    if (file.deleted || file.kind === 'block-device') continue
    if (file.path.includes('\uFFFD')) obstacles.push({ kind: 'node-local-file', message: `${file.path} is open (PID ${file.pid}), exists on ${context.node} only, and its name is no UTF-8 text`, remedy: 'Give the file another name, or keep it on the shared file system.' })
    else if (file.uid === sandbox.run.uid) carried.set(file.path, file)
    else obstacles.push({ kind: 'node-local-file', message: `${file.path} is open (PID ${file.pid}) and exists on ${context.node} only`, remedy: 'Keep the job\'s files on the shared file system, or ask your admin to list the directory under files.shared_paths.' })
  }
  const isPacked = (path: string): boolean => carried.has(path) || isBelowAny(path, carriedTrees)
  obstacles.push(...leaseObstacles(processes.flatMap((p) => p.files), isPacked))
  const carriedBytes = [...carried.values()].reduce((sum, file) => sum + (file.kind === 'file' ? file.bytes : 0), 0)
  if (carriedBytes > context.config.files.carry_limit_mb * 1e6) {
    obstacles.push({ kind: 'carry-limit', message: `open files that must travel with the image hold ${Math.round(carriedBytes / 1e6)} MB, more than files.carry_limit_mb`, remedy: 'Keep large files on the shared file system.' })
  }
  return { carried: [...carried.keys()], carriedBytes, obstacles }
}

/** What the payload consists of now: everything CRIU would lose in silence, and the files that must travel with the image. */
export function inspect(context: Context, sandbox: Sandbox): { processes: PayloadProcess[]; obstacles: Obstacle[]; carried: string[]; carriedBytes: number } {
  const processes = payloadProcesses(sandbox.pid1)
  const own = namespaceOf(sandbox.pid1, 'user') ?? ''
  const inside = (address: string): boolean => isLoopback(address) || address === sandbox.run.address
  const files = judgeFiles(context, sandbox, insideTree(processes, rootPid))
  const obstacles = [
    ...processObstacles(processes, rootPid, own),
    ...landlockObstacles(landlocked(sandbox.pid1)),
    ...connectionObstacles(connectionsOf(sandbox.pid1), processes, sandbox.options.net, inside),
    ...files.obstacles,
  ]
  return { processes, obstacles, carried: files.carried, carriedBytes: files.carriedBytes }
}

/** In each private tree: a look must stay quick whatever the job keeps there. */
const directoriesLookedAt = 2000

/** The preflight: found before anything is frozen. */
export async function observe(context: Context, sandbox: Sandbox): Promise<MemberObservation & { readonly prediction: Prediction }> {
  const { processes, obstacles, carried, carriedBytes } = inspect(context, sandbox)
  sandbox.noticing = processes.some((one) => one.watched.length > 0 || one.files.some((file) => file.leased))
  const [{ bytes, prediction }, ofTrees, losses, ofLedger, blockers] = await Promise.all([
    predictFor(context, sandbox, processes, { paths: carried, bytes: carriedBytes }), treeObstacles(sandbox, directoriesLookedAt), tcpLosses(context, sandbox, processes),
    ledgerObstacles(context, sandbox, processes), lookForBlockers(context, sandbox, processes), tellKeys(context, sandbox),
  ])
  return { obstacles: [...obstacles, ...scriptObstacles(context, sandbox), ...blockers, ...ofTrees, ...losses.obstacles, ...ofLedger], carried, processes: processes.length, bytes, predictedSeconds: prediction.seconds, prediction }
}

/**
 * Tells the job's owner, while it can still be helped, what keeps the job from being saved and when it ends, and when that has gone:
 * each kind once, and only what stands, or is gone, in two looks, since much comes and goes.
 * @param end of the allocation, milliseconds since 1970; null without a limit
 */
export function tellObstacles(sandbox: Sandbox, obstacles: readonly Obstacle[], end: number | null): void {
  if (sandbox.link === undefined) return // Nothing reaches the job without its guard: told when it is back.
  const before = sandbox.obstacles ?? { seen: new Set(), told: new Set() }
  const now = new Set(obstacles.map(({ kind }) => kind))
  const fresh = obstacles.filter(({ kind }, at) => before.seen.has(kind) && !before.told.has(kind) && obstacles.findIndex((o) => o.kind === kind) === at)
  const until = end === null ? '' : ` Unless this changes, it ends unsaved at ${clockTime(end, Date.now())}.`
  for (const { message, remedy } of fresh) sandbox.link.send('say', { text: `the job cannot be saved as it is: ${message}. ${remedy}${until}` })
  const gone = [...before.told].filter((kind) => !now.has(kind) && !before.seen.has(kind))
  const told = new Set([...before.told, ...fresh.map((o) => o.kind)].filter((kind) => !gone.includes(kind)))
  if (gone.length > 0 && told.size === 0) sandbox.link.send('say', { text: 'the job can be saved again: nothing stands in the way any more' })
  sandbox.obstacles = { seen: now, told }
}

/** Slurm freezes the whole step, its guard included: nothing in it answers, and CRIU would wait for ever. @throws StintError E_SUSPENDED */
export function assertNotSuspended(context: Context, sandbox: Sandbox): void {
  if (isFrozen(context.catalogue.members.require(sandbox.memberId).payload_cgroup)) {
    throw new StintError('E_SUSPENDED', `job ${sandbox.run.job_id} is suspended`)
  }
}

/** @throws StintError E_PREFLIGHT with the first obstacle */
export function assertNoObstacles(obstacles: readonly Obstacle[]): void {
  const first = obstacles[0]
  if (first === undefined) return
  const more = obstacles.length > 1 ? ` (and ${obstacles.length - 1} more)` : ''
  throw new StintError('E_PREFLIGHT', `${first.message}${more}`, { hint: first.remedy, details: { obstacles } })
}

/** @param processes those of the sandbox while the payload is frozen @throws StintError E_PREFLIGHT */
export function assertTreeComplete(processes: readonly PayloadProcess[]): void {
  const lost = outsideTree(processes, rootPid)[0]
  if (lost !== undefined) throw new StintError('E_PREFLIGHT', `${lost.comm} (PID ${lost.pid} in the sandbox) left the job's process tree during the dump`)
}
