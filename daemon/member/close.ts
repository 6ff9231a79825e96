import { rmSync } from 'node:fs'
import { StintError, asStintError } from '../core/errors.ts'
import type { Member } from '../catalogue/members.ts'
import { removePlacedScript } from './archive.ts'
import { endDump } from './dump.ts'
import { type Context, type Sandbox, engineDirectory, sandboxDirectory } from '../context.ts'
import { dropFinished } from '../images/retention.ts'

/** Slurm's states after which nobody wants a run's images: it came to its own end, or somebody ended it. */
export const finishedStates: ReadonlySet<string> = new Set(['COMPLETED', 'FAILED', 'CANCELLED'])
/** How long Slurm may need to settle a job's state, seconds. */
const settleSeconds = 60

/** slurmstepd has removed its cgroups by then, or never will. */
const stepEndSeconds = 5

/** Everything of a member on this node that is not a process: cgroup, files, row. */
async function clearMember(context: Context, member: Member, jobId: number, sandbox: Sandbox | undefined): Promise<void> {
  removePlacedScript(context, jobId)
  if (sandbox !== undefined) {
    await context.network.disconnect(sandbox.pid1).catch((error: unknown) => { context.log.warn({ err: error, job: jobId }, 'network devices go with their namespace') })
    sandbox.pid1.release()
    sandbox.guard.release()
  }
  rmSync(sandboxDirectory(context, jobId), { recursive: true, force: true })
  context.catalogue.members.move(member.id, 'ended', Date.now())
  // Processes that were just killed stay in their cgroup until they are reaped.
  for (let tries = 0; tries < 100 && !context.kernel.removePayloadCgroup(member.payload_cgroup); tries++) await context.clock.sleep(50)
  context.clock.after(stepEndSeconds * 1000, () => { context.kernel.removeStepRemains(member.payload_cgroup) })
}

/** A checkpoint in the making ends with its sandbox. */
async function dropDump(context: Context, sandbox: Sandbox): Promise<void> {
  const { job_id: job } = sandbox.run
  sandbox.dump?.ending.abort(new StintError('E_NOT_RUNNING', `job ${job} has just ended`))
  try {
    await endDump(sandbox)
  } catch (error) {
    context.log.warn({ err: error, job }, 'what was written of a checkpoint could not be removed')
  }
}

/** A member that never came to life: the job runs plain. */
export function abandonMember(context: Context, memberId: number): void {
  const member = context.catalogue.members.require(memberId)
  const run = context.catalogue.runs.get(member.run_id)
  if (run === undefined) return
  const sandbox = context.sandboxes.get(run.job_id)
  sandbox?.deadline?.[Symbol.dispose]()
  context.sandboxes.delete(run.job_id)
  void clearMember(context, member, run.job_id, sandbox).catch((error: unknown) => { context.log.error({ err: error }, 'clean-up failed') })
}

/** Whether the run's images are of no more use, by Slurm's word once the job's state has settled; kept when in doubt. */
async function imagesAreDone(context: Context, sandbox: Sandbox, endedByItself: boolean): Promise<boolean> {
  for (let waited = 0; waited < settleSeconds; waited++) {
    const job = await context.scontrol.showJob(sandbox.run.job_id).catch(() => undefined)
    if (job === undefined || job.restarts > sandbox.restarts) return false
    if (job.state !== 'COMPLETING') return finishedStates.has(job.state) || (job.state === 'RUNNING' && endedByItself)
    await context.clock.sleep(1000)
  }
  return false
}

/** It may have ended itself, or be gone: it finds out by its own step then. */
async function tellCoordinator(context: Context, sandbox: Sandbox): Promise<void> {
  const { job_id: job, id } = sandbox.run
  context.catalogue.runs.end(id, Date.now(), null)
  await context.cluster.coordinator(job, sandbox.coordinator ?? '').memberEnded(sandbox.member).catch((error: unknown) => { context.log.info({ err: asStintError(error), job }, 'the coordinator was not told that its member ended') })
}

/** Without member 0 there is no run; Slurm ends the other steps with the job, too. */
async function closeOthers(sandbox: Sandbox): Promise<void> {
  await Promise.allSettled([...sandbox.others.values()].map(async (member) => (await member).close()))
}

/**
 * The sandbox has ended.
 * @param waitStatus the payload's, as of waitpid(2); null when the sandbox vanished or was released after a checkpoint
 */
export async function closeSandbox(context: Context, sandbox: Sandbox, waitStatus: number | null): Promise<void> {
  const { run } = sandbox
  if (context.sandboxes.get(run.job_id) !== sandbox) return
  context.sandboxes.delete(run.job_id)
  sandbox.deadline?.[Symbol.dispose]()
  const member = context.catalogue.members.require(sandbox.memberId)
  const saved = member.state === 'held'
  context.closing.add(member.id)
  await clearMember(context, member, run.job_id, sandbox).finally(() => { context.closing.delete(member.id) })
  await sandbox.post?.[Symbol.asyncDispose]()
  await dropDump(context, sandbox)
  if (sandbox.coordinator !== undefined) {
    await tellCoordinator(context, sandbox)
    return
  }
  await closeOthers(sandbox)
  if (saved) return
  const hasImages = context.store.list(run.job_id).some((image) => image.manifest.run === run.id)
  if (waitStatus !== null) context.catalogue.runs.end(run.id, Date.now(), waitStatus)
  const done = !hasImages || (await imagesAreDone(context, sandbox, waitStatus !== null))
  context.catalogue.transaction(() => {
    if (waitStatus === null && done) context.catalogue.runs.end(run.id, Date.now(), null)
    context.catalogue.events.add(run.id, Date.now(), 'ended', { waitStatus, imagesKept: !done })
  })
  if (done) {
    dropFinished(context, run.job_id, run.id)
    if (context.catalogue.runs.get(run.id)?.error === null) rmSync(engineDirectory(context, run.job_id), { recursive: true, force: true })
  }
  context.log.info({ job: run.job_id, waitStatus }, 'sandbox closed')
}

/** The guard's connection was lost: it has ended, or it reconnects. */
export function watchGuard(context: Context, sandbox: Sandbox): void {
  sandbox.link = undefined
  const look = (): void => {
    if (sandbox.link !== undefined || context.sandboxes.get(sandbox.run.job_id) !== sandbox) return
    if (sandbox.guard.isAlive) context.clock.after(100, look)
    else void closeSandbox(context, sandbox, null).catch((error: unknown) => { context.log.error({ err: error }, 'closing failed') })
  }
  look()
}
