import type { DrainReport, DrainedJob } from '../core/drain.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { rootAlive } from '../linux/payload.ts'
import { type Context, type Sandbox, rootPid } from '../context.ts'
import { saveInTurn } from '../run/save.ts'
import { pause } from '../stopping.ts'
import { audit, daemonItself, type Actor } from '../images/audit.ts'

/** How long a job may be opening, restoring or busy otherwise before it is given up, and a requeue may need, seconds. */
const patienceSeconds = 120
const lookSeconds = 0.2

/** Looks until `found` returns something. @throws what `late` makes after the patience */
async function untilFound<T>(context: Context, found: () => T | undefined, late: () => StintError): Promise<T> {
  const end = Date.now() + patienceSeconds * 1000
  for (;;) {
    const value = found()
    if (value !== undefined) return value
    if (Date.now() > end) throw late()
    await pause(context, lookSeconds)
  }
}

/** Waits for the sandbox to be free for a checkpoint. @returns false when it has ended meanwhile */
async function untilFree(context: Context, sandbox: Sandbox): Promise<boolean> {
  return untilFound(context, () => {
    const state = context.sandboxes.get(sandbox.run.job_id) === sandbox ? context.catalogue.members.require(sandbox.memberId).state : 'ended'
    if (state === 'ended' || state === 'held') return false
    return state === 'running' && !sandbox.busy ? true : undefined
  }, () => new StintError('E_BUSY', `the job was not free to be saved within ${patienceSeconds} s`))
}

/** @throws StintError E_SLURM; the daemon goes on asking by itself */
async function untilRequeued(context: Context, checkpointId: number): Promise<void> {
  await untilFound(
    context,
    () => (context.catalogue.checkpoints.require(checkpointId).requeued === 1 ? true : undefined),
    () => new StintError('E_SLURM', 'the job is saved, but Slurm has not accepted its requeue yet'),
  )
}

function fail(row: DrainedJob, cause: unknown): void {
  const { code, message, hint } = asStintError(cause)
  Object.assign(row, { outcome: 'failed', error: { code, message, hint } })
}

/** Saves and requeues a job, and keeps its row up to date. The coordinator's alone. */
async function saveOne(context: Context, sandbox: Sandbox, row: DrainedJob): Promise<void> {
  try {
    for (;;) {
      if (!(await untilFree(context, sandbox))) {
        row.outcome = 'ended'
        return
      }
      row.outcome = 'saving'
      const made = await saveInTurn(context, sandbox, { trigger: 'drain', keepRunning: false }, context.stopping).catch((error: unknown) => {
        if (asStintError(error).code === 'E_BUSY') return undefined // Another checkpoint came first.
        throw error
      })
      if (made === undefined) continue
      Object.assign(row, { checkpoint: made.number, bytes: context.catalogue.images.ofCheckpoint(made.id)[0]?.bytes ?? null, seconds: made.seconds })
      await untilRequeued(context, made.id)
      row.outcome = 'saved'
      return
    }
  } catch (cause) {
    if (asStintError(cause).code === 'E_NOT_RUNNING' && !rootAlive(sandbox.pid1, rootPid)) row.outcome = 'ended'
    else fail(row, cause)
  }
}

function newRow(job: number, user: string): DrainedJob {
  return { job, user, outcome: 'waiting', checkpoint: null, bytes: null, seconds: null, error: null }
}

/** Saves and requeues a run of which another node, a member's, is being drained. */
export async function drainJob(context: Context, sandbox: Sandbox): Promise<DrainedJob> {
  const row = newRow(sandbox.run.job_id, sandbox.run.user)
  await saveOne(context, sandbox, row)
  return row
}

/** A run over several nodes is saved by its coordinator, wherever that is. */
async function saveOneThere(context: Context, { run }: Sandbox, coordinator: string, row: DrainedJob): Promise<void> {
  row.outcome = 'saving'
  try {
    Object.assign(row, await context.cluster.coordinator(run.job_id, coordinator).drain())
  } catch (cause) {
    fail(row, cause)
  }
}

/** Jobs that have the node without being under Stint: nobody can save them. */
async function plainJobs(context: Context): Promise<DrainedJob[]> {
  const error = { code: 'E_NO_SUCH_JOB', message: 'not under Stint', hint: 'It runs on; wait for its end, or cancel it.' } as const
  return (await context.squeue.jobsOn(context.node)).filter(({ jobId }) => !context.sandboxes.has(jobId)).map(({ jobId, user }) => ({ ...newRow(jobId, user), outcome: 'failed' as const, error }))
}

/** Saves every job of this node, drain.parallel at a time, and puts each back into the queue; jobs it cannot save run on. */
async function saveAll(context: Context, report: DrainReport): Promise<void> {
  const queue = [...context.sandboxes.values()].map((sandbox) => ({ sandbox, row: newRow(sandbox.run.job_id, sandbox.run.user) }))
  report.jobs.push(...queue.map(({ row }) => row), ...(await plainJobs(context)))
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { sandbox, row } = next
      await (sandbox.coordinator === undefined ? saveOne(context, sandbox, row) : saveOneThere(context, sandbox, sandbox.coordinator, row))
    }
  }
  await Promise.all(Array.from({ length: context.config.drain.parallel }, worker))
}

/**
 * Saves and requeues all jobs of this node before maintenance. The node is set to drain in Slurm first, or the jobs would come
 * back; it is the admin who resumes it. One drain at a time.
 * @param reason for Slurm's records; undefined leaves the node's state as it is
 * @throws StintError E_BUSY, E_SLURM with no job touched
 */
export async function drain(context: Context, reason: string | undefined, by: Actor): Promise<DrainReport> {
  if (context.drain.report?.endedAt === null) throw new StintError('E_BUSY', `${context.node} is being drained already`, { hint: 'Wait for it; GET /v1/drain tells how far it is.' })
  const report: DrainReport = { node: context.node, startedAt: Date.now(), endedAt: null, jobs: [] }
  context.drain.report = report
  try {
    if (reason !== undefined) await context.scontrol.drainNode(context.node, reason)
    await saveAll(context, report)
  } finally {
    report.endedAt = Date.now()
    audit(context, by, { action: 'drain', subject: undefined, detail: { node: context.node, reason: reason ?? null, jobs: report.jobs.map(({ job, outcome }) => ({ job, outcome })) } })
  }
  context.log.info({ jobs: report.jobs.map(({ job, outcome }) => ({ job, outcome })) }, 'drained')
  return report
}

/** Where Slurm drains the node by itself or by an admin's scontrol: what runs here is saved. */
async function followSlurm(context: Context): Promise<void> {
  if (context.sandboxes.size === 0 || context.drain.report?.endedAt === null) return
  if (/DRAIN/.test(await context.scontrol.nodeState(context.node))) await drain(context, undefined, daemonItself)
}

/** Looks at the node's state every drain.automatic_seconds; never when that is 0. */
export function watchDrain(context: Context): Disposable {
  const seconds = context.config.drain.automatic_seconds
  if (seconds === 0) return { [Symbol.dispose]: () => undefined }
  const timer = setInterval(() => {
    followSlurm(context).catch((error: unknown) => { context.log.warn({ err: error }, 'the node could not be drained') })
  }, seconds * 1000)
  return { [Symbol.dispose]: () => { clearInterval(timer) } }
}
