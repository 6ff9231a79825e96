import { asStintError } from '../core/errors.ts'
import type { SlurmJob } from '../slurm/job.ts'
import type { StoredImage, UnfinishedImage } from '../../plugins/stores/store.ts'
import type { Context } from '../context.ts'
import { audit, daemonItself, imageHash, type Actor } from './audit.ts'

const dayMilliseconds = 86_400_000
/** An image in the making that nobody has written to for so long has no maker any more: no dump may take this long. */
const abandonedMilliseconds = dayMilliseconds
/** Slurm's states of a job that will not start again. */
export const overStates: ReadonlySet<string> = new Set(['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'BOOT_FAIL', 'DEADLINE'])

export interface ReclaimOptions {
  /** Who asked for it; by default nobody did. */
  readonly by?: Actor
  /** Whose images; undefined: everybody's, and what was left unfinished. */
  readonly uid: number | undefined
  /** Says what would go and removes nothing. */
  readonly dryRun: boolean
  /** Does not wait for store.keep_days and keep_finished_days. */
  readonly now: boolean
}

/** Something that is of no more use. */
export interface Reclaimed {
  readonly job: number
  readonly run: string
  readonly user: string | null
  readonly what: 'images' | 'unfinished' | 'unreadable'
  readonly bytes: number
  readonly reason: string
}

/** Slurm's word on each job, asked once; while slurmctld does not answer nothing is known, and everything is kept. */
class Jobs {
  readonly #context: Context
  readonly #asked = new Map<number, Promise<SlurmJob | undefined>>()

  constructor(context: Context) {
    this.#context = context
  }

  async find(jobId: number): Promise<SlurmJob | undefined> {
    const asked = this.#asked.get(jobId) ?? this.#context.scontrol.findJob(jobId)
    this.#asked.set(jobId, asked)
    return asked
  }
}

function ageInWords(milliseconds: number): string {
  const days = milliseconds / dayMilliseconds
  return days >= 1 ? `${Math.floor(days)} days old` : `${Math.floor(milliseconds / 3_600_000)} hours old`
}

/** Why a run's images may go, or undefined when they may not. @param newest its newest image */
async function reasonToGo(context: Context, jobs: Jobs, { manifest }: StoredImage, options: ReclaimOptions): Promise<string | undefined> {
  const finishedAt = context.store.finishedAt(manifest.job, manifest.run)
  const [since, keepDays] = finishedAt === undefined ? [manifest.createdAt, context.config.store.keep_days] : [finishedAt, context.config.store.keep_finished_days]
  const age = Date.now() - since
  if (!options.now && age < keepDays * dayMilliseconds) return undefined
  const job = await jobs.find(manifest.job)
  if (job !== undefined && !overStates.has(job.state)) return undefined
  return `${job === undefined ? 'Slurm knows the job no more' : `the job is over (${job.state})`}, ${ageInWords(age)}`
}

/** Why nobody is making this image any more, or undefined when somebody may be. */
async function reasonAbandoned(jobs: Jobs, image: UnfinishedImage): Promise<string | undefined> {
  const idle = Date.now() - image.writtenAt
  if (idle > abandonedMilliseconds) return `nothing was written to it, ${ageInWords(idle)}`
  const job = await jobs.find(image.job)
  if (job === undefined || overStates.has(job.state)) return 'its job is over'
  if (job.state === 'PENDING') return 'its job waits in the queue'
  return job.state === 'RUNNING' && job.batchHost !== undefined && job.batchHost !== image.node ? `its job runs on ${job.batchHost} by now` : undefined
}

async function reclaimRuns(context: Context, jobs: Jobs, options: ReclaimOptions): Promise<Reclaimed[]> {
  const found: Reclaimed[] = []
  const byRun = Map.groupBy(context.store.list(), (image) => image.manifest.run)
  for (const images of byRun.values()) {
    const newest = images[0]
    if (newest === undefined || (options.uid !== undefined && newest.manifest.uid !== options.uid)) continue
    const reason = await reasonToGo(context, jobs, newest, options)
    if (reason === undefined) continue
    const { job, run, user } = newest.manifest
    if (!options.dryRun) {
      const hash = imageHash(context, { job, run }, newest.manifest.checkpoint)
      context.store.removeRun(job, run)
      audit(context, options.by ?? daemonItself, { action: 'reclaim', subject: { job, run, user, owner: newest.manifest.uid }, checkpoint: newest.manifest.checkpoint, image: hash, detail: { reason, images: images.length } })
    }
    found.push({ job, run, user, what: 'images', bytes: images.reduce((sum, image) => sum + image.manifest.bytes, 0), reason })
  }
  return found
}

/** What cannot be read or trusted is judged by where it lies and when it was written, never by what is in it. */
async function reclaimUnreadable(context: Context, jobs: Jobs, options: ReclaimOptions): Promise<Reclaimed[]> {
  const found: Reclaimed[] = []
  for (const image of context.store.unreadable()) {
    const { bytes, writtenAt } = context.store.measure(image)
    const age = Date.now() - writtenAt
    if (!options.now && age < context.config.store.keep_days * dayMilliseconds) continue
    const job = await jobs.find(image.job)
    if (job !== undefined && !overStates.has(job.state)) continue
    if (!options.dryRun) context.store.remove(image)
    found.push({ job: image.job, run: image.run, user: null, what: 'unreadable', bytes, reason: `checkpoint ${image.checkpoint}: ${image.error.code}, ${ageInWords(age)}` })
  }
  return found
}

async function reclaimUnfinished(context: Context, jobs: Jobs, options: ReclaimOptions): Promise<Reclaimed[]> {
  const found: Reclaimed[] = []
  for (const image of context.store.unfinished()) {
    const reason = await reasonAbandoned(jobs, image)
    if (reason === undefined) continue
    if (!options.dryRun) {
      context.store.removeUnfinishedImage(image)
      audit(context, options.by ?? daemonItself, { action: 'reclaim', subject: { job: image.job, run: image.run, user: null, owner: null }, detail: { reason, unfinished: true } })
    }
    found.push({ job: image.job, run: image.run, user: null, what: 'unfinished', bytes: image.bytes, reason: `begun on ${image.node}; ${reason}` })
  }
  return found
}

/**
 * Removes what is of no more use: images of runs whose job is over, once they are old enough, and what dead nodes left unfinished.
 * Every node may do it: what another one has removed is not missed.
 * @throws StintError E_SLURM when slurmctld does not answer: what was not judged by then is kept
 */
export async function reclaim(context: Context, options: ReclaimOptions): Promise<Reclaimed[]> {
  const jobs = new Jobs(context)
  const found = [...(await reclaimRuns(context, jobs, options)), ...(options.uid === undefined ? [...(await reclaimUnreadable(context, jobs, options)), ...(await reclaimUnfinished(context, jobs, options))] : [])]
  if (!options.dryRun) for (const one of found) context.log.info(one, 'reclaimed')
  return found
}

/** For the schedule: a fault here harms nobody and is tried again. */
export async function reclaimQuietly(context: Context): Promise<void> {
  await reclaim(context, { uid: undefined, dryRun: false, now: false }).catch((error: unknown) => { context.log.warn({ err: asStintError(error) }, 'old images could not be reclaimed') })
}
