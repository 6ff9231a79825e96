import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { fixtures, on, status, submit, tryOn, until, untilPrinted, untilRunning, workDirectory, type RunJson } from '../support/cluster.ts'

/**
 * How late the walltime checkpoint begins, and whether ever too late, over jobs of all sizes. Into a store of each node's memory, kept
 * warm: a prediction is as good as its store is steady, and the disk below the virtual cluster may take four times as long for the
 * same bytes, memory that its host must give first fifty times (docs/performance.md). STINT_WALLTIME_STORE=disk has the store on the
 * disk nonetheless; "never too late" must hold with any.
 */

const minute = 60_000
/** Jobs of 50 MB to 3 GB, each so many times larger than the one before. */
const jobs = Number(process.env['STINT_WALLTIME_JOBS'] ?? 30)
const [smallest, largest] = [50, 3000]
const sorted = Array.from({ length: jobs }, (_, n) => Math.round(smallest * (largest / smallest) ** (n / (jobs - 1))))
/** Large and small by turns: what runs at the same time must fit into the machine below the virtual nodes. */
const sizes = Array.from({ length: jobs }, (_, n) => sorted[(n * 7) % jobs] ?? smallest)
/**
 * Between two submissions, half a walltime: while one job is saved, none fills its memory and none else is saved. All nodes here
 * write to one disk; what a node knows of are its own runs.
 */
const pauseSeconds = 30
const isSteady = process.env['STINT_WALLTIME_STORE'] !== 'disk'
/** Checkpoints of each size that a node makes before, so that there is something to predict from. */
const lessons = 3

interface Outcome { megabytes: number; secondsBeforeLimit: number; tookSeconds: number; state: string; planned: RunJson['plan'] }

async function hog(megabytes: number, time: number, node = '--exclude=n4,n5'): Promise<{ job: number; directory: string }> {
  const directory = await workDirectory()
  const job = await submit({
    directory, options: `--stint --time=${time} --mem=${megabytes + 250} ${node}`, script: `#!/bin/bash\npython3 ${fixtures}/programs/hog.py ${megabytes} end\n`,
  })
  return { job, directory }
}

/** A job that was saved and is in the queue would keep its image until the night. */
async function cancel(job: number, node: string): Promise<void> {
  await on('ctl', `scancel ${job}`)
  await on(node, `sleep 1; rm -rf /shared/stint/${job}`)
}

/** A node learns what its store takes, from small jobs and large ones; one after the other, as nobody else writes then. */
async function learn(node: string): Promise<void> {
  for (const megabytes of [100, 1500]) {
    for (let n = 0; n < lessons; n++) {
      const { job, directory } = await hog(megabytes, 10, `--nodelist=${node}`)
      await untilRunning(job)
      await untilPrinted(directory, /ready/, 60)
      await on(node, `stint checkpoint ${job}`)
      await cancel(job, node)
    }
  }
}

interface Seen { readonly state: string; readonly node: string; readonly limit: number }

/** What Slurm says of all jobs, asked for by one: asking for each would take the processors that the checkpoints are measured on. */
class Watch implements AsyncDisposable {
  readonly #jobs = new Map<number, Seen>()
  readonly #over = new AbortController()
  readonly #loop = this.#look()

  async #look(): Promise<void> {
    while (!this.#over.signal.aborted) {
      for (const line of (await on('ctl', "squeue -h --states=all -o '%i %T %B %e'")).split('\n')) {
        const [id, state = '', node = '', end] = line.split(' ')
        this.#jobs.set(Number(id), { state, node, limit: Date.parse(`${end ?? ''}Z`) })
      }
      await sleep(1000)
    }
  }

  async until(job: number, state: string, seconds: number): Promise<Seen> {
    return until(`job ${job} is ${state}`, seconds, async () => {
      const seen = this.#jobs.get(job)
      return Promise.resolve(seen?.state === state ? seen : undefined)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await this.#loop
  }
}

/** Lets a job run into its limit. @returns how its outcome is learnt, once nobody is measured any more */
async function untilWalltime(watch: Watch, megabytes: number): Promise<() => Promise<Outcome>> {
  const { job, directory } = await hog(megabytes, 1)
  const { node, limit } = await watch.until(job, 'RUNNING', 300)
  const failure = await watch.until(job, 'PENDING', 120).then(() => undefined, (error: unknown) => error as Error)
  await cancel(job, node) // Before it starts again.
  return async () => {
    const run = await status(node, job)
    const checkpoint = run?.checkpoints.find((c) => ['requeued', 'aborted'].includes(c.state))
    if (failure !== undefined || run === undefined || checkpoint === undefined) throw new Error(`${megabytes} MB: ${failure?.message}\n${(await tryOn(node, `scontrol show job ${job}; stint status ${job}; cat ${directory}/*.txt`)).stdout}`)
    const { prediction } = run.events.find((event) => event.kind === 'checkpoint')?.detail['planned'] as { prediction: Outcome['planned'] }
    return { megabytes, secondsBeforeLimit: (limit - checkpoint.startedAt) / 1000, tookSeconds: checkpoint.seconds, state: checkpoint.state, planned: prediction }
  }
}

const outcomes: Outcome[] = []

/** The lower and the upper end, and the quarters between. */
function quartiles(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b)
  return [0, 0.25, 0.5, 0.75, 1].map((part) => (sorted[Math.round(part * (sorted.length - 1))] ?? NaN).toFixed(2)).join(' ')
}

beforeAll(async () => {
  const warm = '/run/warm.txt'
  await on('ctl', `setsid python3 ${fixtures}/programs/warm-memory.py </dev/null >${warm} 2>&1 &`)
  await until('the memory is warm', 240, async () => (await tryOn('ctl', `grep warm ${warm}`)).exitCode === 0)
  for (const node of ['n1', 'n2', 'n3']) {
    if (isSteady) await on(node, 'mount -t tmpfs -o size=8g,mode=700 none /shared/stint')
    await learn(node)
  }
  await using watch = new Watch()
  const learnt = await Promise.allSettled(sizes.map(async (megabytes, n) => {
    await sleep(n * pauseSeconds * 1000)
    return untilWalltime(watch, megabytes)
  }))
  const failures: unknown[] = []
  for (const one of learnt) {
    if (one.status === 'fulfilled') await one.value().then((outcome) => outcomes.push(outcome), (error: unknown) => failures.push(error))
    else failures.push(one.reason)
  }
  console.log([
    'MB, seconds from the freeze to the limit, seconds the checkpoint took; seconds predicted, and their spread:',
    ...outcomes.map((o) => `${o.megabytes} ${o.secondsBeforeLimit.toFixed(2)} ${o.tookSeconds.toFixed(2)}; ${o.planned?.seconds.toFixed(2)} ${o.planned?.spreadSeconds.toFixed(2)}`),
    `left over at the limit, quartiles: ${quartiles(outcomes.map((o) => o.secondsBeforeLimit - o.tookSeconds))}`,
    `earlier than 1.5 times the time it took and 3 s: ${outcomes.filter(isEarly).length} of ${outcomes.length}`,
  ].join('\n'))
  expect(failures).toEqual([])
}, 30 * minute)

afterAll(async () => {
  await on('ctl', "pkill -f '[w]arm-memory.py'")
  for (const node of ['n1', 'n2', 'n3']) if (isSteady) await on(node, 'umount /shared/stint')
}, minute)

function isEarly(o: Outcome): boolean {
  return o.secondsBeforeLimit > 1.5 * o.tookSeconds + 3
}

test('no job is saved too late', () => {
  expect(outcomes.filter((o) => o.state !== 'requeued' || o.tookSeconds > o.secondsBeforeLimit)).toEqual([])
})

const testOfSteady = isSteady ? test : test.skip
testOfSteady('no job is frozen earlier than 1.5 times the time its checkpoint then takes, and 3 s, before its limit', () => {
  expect(outcomes.filter(isEarly)).toEqual([])
})
