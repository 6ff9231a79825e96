import type { LookAnswers } from '../core/looks.ts'
import type { Obstacle } from '../core/obstacles.ts'
import { StintError, asStintError } from '../core/errors.ts'
import type { MemberObservation } from '../core/member.ts'
import { clockTime } from '../core/save-failure.ts'
import { assumedSeconds, predict, type DeadlineRules, type Prediction } from '../core/deadline.ts'
import type { Context, Sandbox } from '../context.ts'
import { scriptObstacles } from './job-script.ts'
import { tellKeys } from './ledger.ts'

export function deadlineRules(context: Context): DeadlineRules {
  const { deadline } = context.config
  return { safety: deadline.safety, marginSeconds: deadline.margin_seconds, assumedBytesPerSecond: deadline.assumed_mb_per_second * 1e6 }
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

/** Whether the guard is stopped. One that has ended is found otherwise. */
function isGuardStopped({ guard }: Sandbox): boolean {
  const state = guard.stat()?.state
  return state === 'T' || state === 't'
}

type Preflight = LookAnswers['preflight']

/** Of a payload with too much to look at nothing is known but that it cannot be saved. */
const unknown: Omit<Preflight, 'obstacles'> = {
  carried: [], processes: 0, bytes: 0, cloned: 0, noticing: false, objects: { processes: 0, threads: 0, files: 0, mappings: 0, connections: 0, copies: 0 },
}

/** There may be too much to look at: that is an obstacle as others are. */
async function lookAtAll(context: Context, sandbox: Sandbox): Promise<Preflight> {
  try {
    return await context.look('preflight', sandbox, { guardStopped: isGuardStopped(sandbox) })
  } catch (cause) {
    const { code, details } = asStintError(cause)
    const obstacles = details['obstacles'] as Obstacle[] | undefined
    if (code !== 'E_PREFLIGHT' || obstacles === undefined) throw cause
    return { ...unknown, obstacles }
  }
}

/** The preflight: found before anything is frozen. */
export async function observe(context: Context, sandbox: Sandbox): Promise<MemberObservation & { readonly prediction: Prediction }> {
  if (!sandbox.pid1.isAlive) throw new StintError('E_NOT_RUNNING', `job ${sandbox.run.job_id} has just ended`)
  const [{ obstacles, carried, processes, bytes, cloned, objects, noticing }] = await Promise.all([lookAtAll(context, sandbox), tellKeys(context, sandbox)])
  sandbox.noticing = noticing
  const prediction = predict(bytes + cloned, assumedSeconds(objects), context.catalogue.throughput.recent(context.store.name), deadlineRules(context))
  return { obstacles: [...obstacles, ...scriptObstacles(context, sandbox)], carried, processes, bytes, predictedSeconds: prediction.seconds, prediction }
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
  if (context.kernel.isFrozen(context.catalogue.members.require(sandbox.memberId).payload_cgroup)) {
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

/** @param lost a process that is in the sandbox, and not in the payload that is frozen @throws StintError E_PREFLIGHT */
export function assertTreeComplete(lost: LookAnswers['frozen']['lost']): void {
  if (lost !== undefined) throw new StintError('E_PREFLIGHT', `${lost.comm} (PID ${lost.pid} in the sandbox) left the job's process tree during the dump`)
}
