import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { counter, fixtures, isOver, leftovers, numbers, on, showJobs, submit, tryOn, until, workDirectory, type JobFields } from '../support/cluster.ts'
import { allNodes, buildChecker, doneLine, submitChecker, type MpiJob } from '../support/mpi.ts'

/** Everything that happens to jobs in a day, in ten minutes: saved for any reason, drained, requeued, daemons killed. */

const minute = 60_000
const soakMinutes = Number(process.env['STINT_SOAK_MINUTES'] ?? 10)
/** Disturbances end so long before the soak does: jobs need some undisturbed time for their last steps. */
const calmMinutes = 2
const counters = 10
const steps = Math.round(soakMinutes * 60 * 2)
/** Of 5 ms and more each. */
const mpiSteps = Math.round(soakMinutes * 60 * 40)
/** Between two disturbances, milliseconds. */
const pause = (): number => 2000 + Math.random() * 5000
/** This node's daemon lives through it all: what it leaks is seen. */
const witness = 'n1'

interface Subject { readonly job: number; readonly directory: string; readonly exitCode: string; readonly expected: string; readonly found: string }

function anyOf<T>(items: readonly T[]): T {
  const item = items[Math.floor(Math.random() * items.length)]
  if (item === undefined) throw new Error('nothing to choose from')
  return item
}

async function startCounter(n: number): Promise<Subject> {
  const directory = await workDirectory()
  const every = n % 3 === 0 ? '=every=20s' : ''
  const limit = n % 2 === 0 ? 1 : 30
  const job = await submit({ directory, options: `--stint${every} --time=${limit} --mem=300`, script: counter(steps) })
  return { job, directory, exitCode: '3:0', expected: numbers(steps), found: `cat ${directory}/out.txt` }
}

async function startMpi(flavour: 'mpich' | 'openmpi'): Promise<Subject> {
  const directory = await buildChecker([flavour])
  const job: MpiJob = await submitChecker(flavour, { directory, nodes: 2, perNode: 1, steps: mpiSteps, options: '--mem=600 --time=2' })
  return { job: job.job, directory, exitCode: '0:0', expected: doneLine(job), found: `grep -E '^(DONE|WRONG)' ${directory}/out.txt` }
}

/** Megabytes: `heap` is what the daemon's JavaScript holds on to, `resident` the whole process with it; both without garbage. */
interface Figures { readonly pid: number; readonly descriptors: number; readonly heap: number; readonly resident: number }

/** Of the witness's daemon. */
async function figures(): Promise<Figures> {
  const [pid = 0, descriptors = 0] = (await on(witness, "pid=$(pgrep -f '[d]aemon/main.ts' | head -n 1); echo $pid; ls /proc/$pid/fd | wc -l")).split('\n').map(Number)
  const memory = JSON.parse(await on(witness, `/opt/stint/node_modules/node/bin/node ${fixtures}/programs/heap.mjs ${pid}`)) as NodeJS.MemoryUsage
  const [heap, resident] = [memory.heapUsed + memory.external, memory.rss].map((bytes) => Math.round(bytes / 1e6))
  return { pid, descriptors, heap: heap ?? 0, resident: resident ?? 0 }
}

/** What may happen to a job or a node; most of it in vain when the job is not running just then. */
const disturbances: Record<string, (job: number, node: string) => Promise<unknown>> = {
  'checkpoint --keep-running': async (job, node) => tryOn(node, `stint checkpoint --keep-running ${job}`),
  'checkpoint': async (job, node) => tryOn(node, `stint checkpoint ${job}`),
  'doorbell': async (job) => tryOn('ctl', `scancel --signal=USR1 --batch ${job}`, { user: 'alice' }),
  'requeue': async (job) => tryOn('ctl', `scontrol requeue ${job}`),
  'time limit': async (job) => tryOn('ctl', `scontrol update jobid=${job} timelimit=${anyOf([1, 2, 5])}`),
  'drain': async () => {
    const node = anyOf(allNodes)
    await tryOn(anyOf(allNodes), `stint drain ${node}`)
    await tryOn('ctl', `scontrol update nodename=${node} state=resume`)
  },
  'daemon killed': async () => tryOn(anyOf(allNodes.filter((node) => node !== witness)), "pkill -KILL -f '[d]aemon/main.ts'"),
}

/** What became of the jobs, by job id, as far as they have ended. */
type Ends = Map<number, JobFields>

/** Notes who has ended, before Slurm forgets it. @returns the others, as they are */
async function look(subjects: readonly Subject[], ends: Ends): Promise<ReadonlyMap<number, JobFields>> {
  const jobs = [...await showJobs()].filter(([job]) => subjects.some((subject) => subject.job === job))
  for (const [job, fields] of jobs) if (isOver(fields)) ends.set(job, fields)
  return new Map(jobs.filter(([job]) => !ends.has(job)))
}

/** Disturbs one job after the other, first those that nothing has started again yet. */
async function disturb(subjects: readonly Subject[], ends: Ends, until: number): Promise<Record<string, number>> {
  const done: Record<string, number> = {}
  while (Date.now() < until) {
    await sleep(pause())
    const jobs = [...await look(subjects, ends)]
    if (jobs.length === 0) continue
    const fresh = jobs.filter(([, fields]) => fields.get('Restarts') === '0')
    const [job, fields] = anyOf(fresh.length === 0 ? jobs : fresh)
    const name = anyOf(Object.keys(disturbances))
    if (fields.get('JobState') !== 'RUNNING') continue
    await disturbances[name]?.(job, fields.get('BatchHost') ?? witness)
    done[name] = (done[name] ?? 0) + 1
  }
  return done
}

describe(`${soakMinutes} minutes of disturbances over ${counters + 2} jobs`, () => {
  let subjects: Subject[]
  /** At the start, in the middle, at the end. */
  const daemon: Figures[] = []
  let done: Record<string, number>
  const ends: Ends = new Map()

  beforeAll(async () => {
    daemon.push(await figures())
    subjects = [...await Promise.all(Array.from({ length: counters }, async (_, n) => startCounter(n))), await startMpi('mpich'), await startMpi('openmpi')]
    const [middle, end] = [0.5, 1].map((part) => Date.now() + part * (soakMinutes - calmMinutes) * minute)
    done = await disturb(subjects, ends, middle ?? 0)
    daemon.push(await figures())
    for (const [name, times] of Object.entries(await disturb(subjects, ends, end ?? 0))) done[name] = (done[name] ?? 0) + times
    for (const { job } of subjects) await tryOn('ctl', `scontrol update jobid=${job} timelimit=30`)
    await until('all jobs have ended', soakMinutes * 60, async () => (await look(subjects, ends)).size === 0)
    console.log([JSON.stringify(done), ...subjects.map(({ job }) => `job ${job}: ${ends.get(job)?.get('JobState')} after ${ends.get(job)?.get('Restarts')} restarts`)].join('\n'))
  }, (2 * soakMinutes + 5) * minute)
  afterAll(async () => {
    for (const { job } of subjects) await tryOn('ctl', `scancel ${job}`)
  }, minute)

  test('every kind of them came, and every job was disturbed', () => {
    expect(Object.keys(done).sort()).toEqual(Object.keys(disturbances).sort())
    expect(subjects.filter(({ job }) => ends.get(job)?.get('Restarts') === '0')).toEqual([])
  })

  test('all end with exact results', async () => {
    for (const { job, exitCode, expected, found } of subjects) {
      expect([job, ends.get(job)?.get('ExitCode'), await on('ctl', found)]).toEqual([job, exitCode, expected])
    }
  }, minute)

  test('nothing is left: no process, cgroup, device, mount, network or image', async () => {
    for (const node of allNodes) {
      for (const { job } of subjects) await until(`nothing of job ${job} is left on ${node}`, 30, async () => (await leftovers(node, job)) === '')
      expect(await on(node, "ip -o link | grep -cE 'vxlan|st[0-9]+' || true; nft list tables | grep -c stint_ || true; ls /run/stint/sandboxes; ls /run/netns 2>/dev/null || true")).toBe('0\n0')
    }
    expect(await on('ctl', `cd /shared/stint && ls -d ${subjects.map(({ job }) => job).join(' ')} 2>/dev/null || true`)).toBe('')
  }, 3 * minute)

  test('the daemon that lived through it holds no more descriptors than at first, and no more memory than half way', async () => {
    daemon.push(await figures())
    console.log(`daemon of ${witness}: ${JSON.stringify(daemon)}`)
    const [first, middle, last] = daemon
    expect(new Set(daemon.map((found) => found.pid)).size).toBe(1)
    expect(last?.descriptors).toBeLessThanOrEqual((first?.descriptors ?? 0) + 8)
    // Caches and pages in use grow at first; what grows after that is a leak.
    expect(last?.heap).toBeLessThan(1.1 * (middle?.heap ?? 0))
    expect(last?.resident).toBeLessThan(1.25 * (middle?.resident ?? 0))
  }, minute)
})
