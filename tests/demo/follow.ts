import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, seconds } from '../../daemon/cli/format.ts'
import { nodesOf, on, showJob, status, tryOn, until, type CheckpointJson, type RunJson } from '../support/cluster.ts'
import { jobLog } from './linpack.ts'
import { minutes, type Timeline } from './timeline.ts'

/** One allocation's share of the job. Times are milliseconds since 1970. */
export interface Stint {
  readonly number: number
  /** Of the job script; its daemon coordinates. */
  readonly node: string
  /** All of the allocation. */
  readonly nodes: readonly string[]
  readonly from: number
  readonly to: number
  /** What ended it: the trigger of its checkpoint, or the end of the job. */
  readonly trigger: string
  /** The checkpoint that ended it; the last stint has none. */
  readonly checkpoint: CheckpointJson | undefined
}

type Fields = ReadonlyMap<string, string>

const finalStates = new Set(['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'DEADLINE', 'PREEMPTED', 'BOOT_FAIL'])
/** The job waits for a human then: Stint holds a job that it could not continue. */
const held = /Held|held/

/** Drains nodes so that a job must move, and resumes the earlier ones when none is left. */
export class Nodes {
  readonly #all: readonly string[]
  readonly #needed: number
  readonly #drained = new Set<string>()
  readonly #timeline: Timeline

  /** @param needed nodes that the job asks for: so many must be left */
  constructor(all: readonly string[], needed: number, timeline: Timeline) {
    this.#all = all
    this.#needed = needed
    this.#timeline = timeline
  }

  async drain(node: string): Promise<void> {
    await on('ctl', `scontrol update nodename=${node} state=drain reason=demo`)
    this.#drained.add(node)
    const resumed = this.#all.length - this.#drained.size >= this.#needed ? [] : [...this.#drained].filter((name) => name !== node)
    for (const name of resumed) {
      await on('ctl', `scontrol update nodename=${name} state=resume`)
      this.#drained.delete(name)
    }
    this.#timeline.add('drain', `${node} is drained: the job must move${resumed.length === 0 ? '' : ` (${resumed.join(', ')} resumed)`}`)
  }
}

export interface FollowOptions {
  readonly job: number
  readonly timeline: Timeline
  readonly nodes: Nodes
  /** The whole run may take so long. */
  readonly seconds: number
  readonly signal: AbortSignal
}

/** The stint that runs: says where and how it goes on, then counts down until it is over. */
async function watchStint(options: FollowOptions, number: number, fields: Fields): Promise<Fields> {
  const { job, timeline, signal } = options
  const node = fields.get('BatchHost') ?? ''
  const where = (await nodesOf(job)).join(', ')
  const since = new Date(fields.get('StartTime') ?? '').getTime()
  let run: RunJson | undefined
  let said: string | undefined
  for (let now = fields; ; now = await showJob(job)) {
    if (now.get('JobState') !== 'RUNNING' || Number(now.get('Restarts')) !== number - 1) return now
    if (said === undefined) {
      run = await status(node, job)
      said = beginning(run, where, number, since)
      if (said !== undefined) timeline.add(`stint ${number}`, said)
    } else {
      const left = ((run?.walltimeEndsAt ?? 0) - Date.now()) / 1000
      timeline.now(`stint ${number}`, `runs on ${where}, walltime ends in ${minutes(left)}`)
    }
    await sleep(500, undefined, { signal })
  }
}

/** While its processes are being ended, a job's state does not say whether it was requeued. */
async function settled(fields: Fields, job: number, signal: AbortSignal): Promise<Fields> {
  let now = fields
  for (; now.get('JobState') === 'COMPLETING'; now = await showJob(job)) await sleep(200, undefined, { signal })
  return now
}

/** How the stint that began at `since` goes on; undefined until it does. */
function beginning(run: RunJson | undefined, where: string, number: number, since: number): string | undefined {
  if (run?.state !== 'running') return undefined
  if (number === 1) return `runs on ${where}`
  // Its node may have had this job before.
  const detail = run.events.findLast((event) => event.kind === 'restored' && event.at >= since)?.detail
  return detail && `continues on ${where} from checkpoint ${String(detail['checkpoint'])}, restored in ${seconds(Number(detail['seconds']))}`
}

/** The checkpoint that ended a stint, by the node that made it and by the store. @throws Error when there is none */
async function savedBy(node: string, job: number, timeline: Timeline): Promise<CheckpointJson> {
  const made = await until(`job ${job} was saved on ${node} and requeued`, 20, async () => {
    const newest = (await status(node, job))?.checkpoints.at(-1)
    return newest?.state === 'requeued' ? newest : undefined
  }).catch(async (error: unknown) => { throw await explained(job, node, (error as Error).message) })
  const images = JSON.parse(await on('ctl', `stint images ${job} --json`)) as { checkpoint: number; bytes: number }[]
  if (!images.some((image) => image.checkpoint === made.number && image.bytes === made.bytes)) throw new Error(`the image of job ${job} made on ${node} is not in the store`)
  const run = await status(node, job)
  timeline.add(`checkpoint ${made.number}`, `${run?.nodes.join(', ') ?? node}, by ${made.trigger}: ${bytes(made.bytes)} in ${seconds(made.seconds)}, job frozen for ${seconds(made.frozenMs / 1000)}`)
  const barrier = run?.events.findLast((event) => event.kind === 'prepared' && event.detail['members'] !== 1)?.detail
  if (barrier !== undefined) timeline.add('barrier', `${String(barrier['members'])} members stood at it ${String(barrier['preparedMs'])} ms after the trigger; the slowest dump took ${String(barrier['slowestDumpMs'])} ms`)
  return made
}

/** An error with all that a reader needs to find out what happened. */
async function explained(job: number, node: string, what: string): Promise<Error> {
  const { stdout } = await tryOn(node === '' ? 'ctl' : node, `scontrol show job ${job}; stint status ${job}; tail -n 20 /var/log/stint/stintd.log`)
  return new Error(`${what}\n${stdout}\n${await jobLog(job)}`)
}

/** The last stint ended when Slurm says that the job did. */
async function lastStint(number: number, node: string, nodes: readonly string[], job: number, fields: Fields): Promise<Stint> {
  const opened = (await status(node, job))?.events.findLast((event) => event.kind === 'opened')
  return { number, node, nodes, from: opened?.at ?? 0, to: new Date(fields.get('EndTime') ?? '').getTime(), trigger: 'end of job', checkpoint: undefined }
}

/**
 * Follows the job from stint to stint until it has ended.
 * @throws Error when it is held, takes too long, or a checkpoint is not what it should be
 */
export async function follow(options: FollowOptions): Promise<{ stints: Stint[]; fields: Fields }> {
  const { job, timeline, nodes, signal } = options
  const stints: Stint[] = []
  const end = Date.now() + options.seconds * 1000
  let fields = await showJob(job)
  for (;;) {
    const state = fields.get('JobState') ?? ''
    const number = Number(fields.get('Restarts')) + 1
    if (Date.now() > end) throw await explained(job, '', `job ${job} has not ended within ${options.seconds} s`)
    if (state === 'PENDING' && held.test(fields.get('Reason') ?? '')) throw await explained(job, stints.at(-1)?.node ?? '', `job ${job} is held`)
    if (state === 'RUNNING') {
      const node = fields.get('BatchHost') ?? ''
      const allocated = await nodesOf(job)
      fields = await settled(await watchStint(options, number, fields), job, signal)
      if (finalStates.has(fields.get('JobState') ?? '')) {
        stints.push(await lastStint(number, node, allocated, job, fields))
        return { stints, fields }
      }
      const checkpoint = await savedBy(node, job, timeline)
      await nodes.drain(node)
      const share = (await status(node, job))?.stints.at(-1)
      stints.push({ number, node, nodes: allocated, from: share?.startedAt ?? 0, to: share?.endedAt ?? 0, trigger: checkpoint.trigger, checkpoint })
    } else if (finalStates.has(state)) return { stints, fields }
    else timeline.now('queue', `waits for its next node (${fields.get('Reason') ?? ''})`)
    await sleep(300, undefined, { signal })
    fields = await showJob(job)
  }
}
