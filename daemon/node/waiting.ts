import { readdirSync, rmSync, statSync } from 'node:fs'
import { awaitsRequeue } from '../core/checkpoint-state.ts'
import { asStintError, systemCode } from '../core/errors.ts'
import { finishedStates } from '../member/close.ts'
import { enginePath } from '../core/config.ts'
import { type Context, engineDirectory } from '../context.ts'
import { overStates } from '../images/prune.ts'
import { dropFinished } from '../images/retention.ts'

/**
 * Runs that this node has seen and has no sandbox of any more: they wait in the queue, go on elsewhere, or ended elsewhere. No guard
 * tells when such a job is over, least of all one that is cancelled while it waits. So Slurm is asked, with one call for all of
 * them; without any, not at all. What is found is the same on every node that knows the run, and doing it twice is no error.
 */

/** Between two looks, seconds. */
const lookSeconds = 60
/** A job that runs elsewhere is the other node's to follow; here are its logs alone, seconds. */
const elsewhereSeconds = 600
const dayMilliseconds = 86_400_000

/** When a job is asked about again, milliseconds since 1970. */
export type Asked = Map<number, number>

function engineDirectories(context: Context): number[] {
  try {
    return readdirSync(enginePath(context.config)).filter((name) => /^\d+$/.test(name)).map(Number)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}

function isHere({ sandboxes, catalogue }: Context, job: number): boolean {
  return sandboxes.has(job) || catalogue.members.alive().some((member) => catalogue.runs.get(member.run_id)?.job_id === job)
}

/** Jobs with a run or logs here and no sandbox. One whose requeue is still to be accepted is in other hands (run/requeue.ts). */
function jobsToAskFor(context: Context, asked: Asked): number[] {
  const { catalogue } = context
  const runs = catalogue.runs.withoutSandbox()
  const unsettled = new Set(runs.filter(({ id }) => catalogue.checkpoints.ofRun(id).some(awaitsRequeue)).map((run) => run.job_id))
  const jobs = new Set([...runs.map((run) => run.job_id), ...engineDirectories(context)])
  return [...jobs].filter((job) => !isHere(context, job) && !unsettled.has(job) && (asked.get(job) ?? 0) <= Date.now())
}

/** A job that came to its end, or was ended, needs no image; others may be wanted yet, and go by their age (images/prune.ts). */
function endRuns(context: Context, job: number, state: string | undefined): void {
  for (const run of context.catalogue.runs.withoutSandbox().filter((one) => one.job_id === job)) {
    const finished = state !== undefined && finishedStates.has(state)
    if (finished) dropFinished(context, job, run.id)
    context.catalogue.transaction(() => {
      context.catalogue.runs.end(run.id, Date.now(), null)
      context.catalogue.events.add(run.id, Date.now(), 'ended', { state: state ?? null, imagesKept: !finished })
    })
    context.log.info({ job, state, finished }, 'a run without a sandbox here is over')
  }
}

/** Logs of a run that failed here stay as long as its images may. @returns whether they are gone */
function removeLogs(context: Context, job: number): boolean {
  const directory = engineDirectory(context, job)
  const age = Date.now() - (statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? 0)
  const failed = context.catalogue.runs.newestOfJob(job)?.error_code != null
  if (failed && age < context.config.store.keep_days * dayMilliseconds) return false
  rmSync(directory, { recursive: true, force: true })
  return true
}

/** One look. @throws StintError E_SLURM when slurmctld does not answer: nothing was changed */
export async function lookAtWaiting(context: Context, asked: Asked): Promise<void> {
  const jobs = jobsToAskFor(context, asked)
  if (jobs.length === 0) return
  const states = await context.squeue.statesOf(jobs)
  for (const job of jobs) {
    const state = states.get(job)
    // It may have come back to this node while Slurm was asked.
    if (isHere(context, job)) continue
    if (state !== undefined && !overStates.has(state)) {
      asked.set(job, state === 'RUNNING' ? Date.now() + elsewhereSeconds * 1000 : 0)
      continue
    }
    endRuns(context, job, state)
    if (removeLogs(context, job)) asked.delete(job)
    else asked.set(job, Date.now() + dayMilliseconds)
  }
}

/** Looks every minute. */
export function watchWaiting(context: Context): Disposable {
  const asked: Asked = new Map()
  let looking = false
  const timer = setInterval(() => {
    if (looking) return
    looking = true
    lookAtWaiting(context, asked)
      .catch((error: unknown) => { context.log.warn({ err: asStintError(error) }, 'jobs without a sandbox here could not be looked at') })
      .finally(() => { looking = false })
  }, lookSeconds * 1000)
  return { [Symbol.dispose]: () => { clearInterval(timer) } }
}
