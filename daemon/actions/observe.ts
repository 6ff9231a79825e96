import { connectionObstacles, processObstacles, outsideTree, type Obstacle } from '../core/obstacles.ts'
import { placeOf } from '../core/file-places.ts'
import { StintError } from '../core/errors.ts'
import type { MemberObservation } from '../core/member.ts'
import { predict, type DeadlineRules, type Prediction } from '../core/deadline.ts'
import { isFrozen } from '../linux/cgroups.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import { payloadBytes, payloadProcesses, type OpenFile, type PayloadProcess } from '../linux/payload.ts'
import { namespaceOf } from '../linux/processes.ts'
import { connectionsOf, isLoopback } from '../linux/tcp.ts'
import { lookForBlockers } from './blockers.ts'
import { type Context, type Sandbox, rootPid } from './context.ts'
import { fileRules } from './places.ts'
import { rollbackBytes } from './rollback.ts'

export function deadlineRules(context: Context): DeadlineRules {
  const { deadline } = context.config
  return { safety: deadline.safety, marginSeconds: deadline.margin_seconds, assumedBytesPerSecond: deadline.assumed_mb_per_second * 1e6 }
}

/** Bytes a checkpoint must write now, and how long that should take with what it must only read. */
async function predictFor(context: Context, sandbox: Sandbox, processes: readonly PayloadProcess[], carried: { paths: readonly string[]; bytes: number }): Promise<{ bytes: number; prediction: Prediction }> {
  const files = rollbackBytes(context, sandbox, processes, carried.paths)
  const bytes = await payloadBytes(sandbox.pid1) + carried.bytes + files.copied
  return { bytes, prediction: predict(bytes + files.cloned, context.catalogue.throughput.recent(context.store.name), deadlineRules(context)) }
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
    if (file.uid === sandbox.run.uid) carried.set(file.path, file)
    else obstacles.push({ kind: 'node-local-file', message: `${file.path} is open (PID ${file.pid}) and exists on ${context.node} only`, remedy: 'Keep the job\'s files on the shared file system, or ask your admin to list the directory under files.shared_paths.' })
  }
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
  const files = judgeFiles(context, sandbox, processes)
  const obstacles = [
    ...processObstacles(processes, rootPid, own),
    ...connectionObstacles(connectionsOf(sandbox.pid1), processes, sandbox.options.net, inside),
    ...files.obstacles,
  ]
  return { processes, obstacles, carried: files.carried, carriedBytes: files.carriedBytes }
}

/** The preflight: found before anything is frozen. */
export async function observe(context: Context, sandbox: Sandbox): Promise<MemberObservation & { readonly prediction: Prediction }> {
  const { processes, obstacles: found, carried, carriedBytes } = inspect(context, sandbox)
  const obstacles = [...found, ...await lookForBlockers(context, sandbox, processes)]
  const { bytes, prediction } = await predictFor(context, sandbox, processes, { paths: carried, bytes: carriedBytes })
  return { obstacles, carried, processes: processes.length, bytes, predictedSeconds: prediction.seconds, prediction }
}

/**
 * Tells the job's owner, while it can still be helped, what keeps the job from being saved: each kind once, and only what stands
 * in two looks, since much comes and goes.
 */
export function tellObstacles(sandbox: Sandbox, obstacles: readonly Obstacle[]): void {
  const before = sandbox.obstacles ?? { seen: new Set(), told: new Set() }
  const fresh = obstacles.filter(({ kind }, at) => before.seen.has(kind) && !before.told.has(kind) && obstacles.findIndex((o) => o.kind === kind) === at)
  for (const { message, remedy } of fresh) sandbox.link?.send('say', { text: `the job cannot be saved as it is: ${message}. ${remedy}` })
  sandbox.obstacles = { seen: new Set(obstacles.map((o) => o.kind)), told: new Set([...before.told, ...fresh.map((o) => o.kind)]) }
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

/** Asked once more while the payload is frozen: a process that came since is caught before anything is ended. */
export function assertTreeComplete(sandbox: Sandbox): void {
  const lost = outsideTree(payloadProcesses(sandbox.pid1), rootPid)[0]
  if (lost !== undefined) throw new StintError('E_PREFLIGHT', `${lost.comm} (PID ${lost.pid} in the sandbox) left the job's process tree during the dump`)
}
