import { beforeAll, describe, expect, test } from '@jest/globals'
import { on, type RunJson, showJob, status, submit, until, untilEnded, untilRunning, workDirectory } from '../support/cluster.ts'
import { endHog, type Hog, submitHog } from '../support/hog.ts'

/** Numbers the job should print in COUNT half-second steps: more than two minutes of work in one-minute allocations. */
const count = 230

let directory: string
let fields: ReadonlyMap<string, string>
const nodes: string[] = []

/** The counting job: after each stint its node is excluded, so that it must move. */
async function countThroughThreeStints(): Promise<void> {
  directory = await workDirectory()
  const job = await submit({ directory, options: '--stint --time=1', script: 'count.sh', environment: { COUNT: count } })
  for (let restarts = 0; restarts < 3; restarts++) {
    nodes.push(await untilRunning(job, restarts, 150))
    await on('ctl', `scontrol update jobid=${job} excnodelist=${nodes.join(',')}`).catch(() => undefined)
    if (restarts < 2) {
      await until(`stint ${restarts + 1} has ended`, 120, async () => (await showJob(job)).get('JobState') === 'PENDING')
      await on('ctl', `scontrol update jobid=${job} excnodelist=${nodes.join(',')}`)
    }
  }
  fields = await untilEnded(job, 120)
}

let hog: Hog
let saved: RunJson
let hogFields: ReadonlyMap<string, string>

/** Two gigabytes of resident memory, one walltime. */
async function moveHog(): Promise<void> {
  hog = await submitHog(2000, 1)
  saved = await until('the hog is saved', 90, async () => {
    const run = await status(hog.node, hog.job)
    return run?.checkpoints.some((c) => c.state === 'requeued') === true ? run : undefined
  })
  await on('ctl', `scontrol update jobid=${hog.job} excnodelist=${hog.node}`)
  hogFields = await endHog(hog)
}

beforeAll(async () => {
  await Promise.all([countThroughThreeStints(), moveHog()])
}, 420_000)

describe('a job that needs more time than its limit', () => {
  test('crosses three stints on three nodes under one job id', () => {
    expect(new Set(nodes).size).toBe(3)
    expect(Number(fields.get('Restarts'))).toBe(2)
  })

  test("ends with the script's own exit code in Slurm", () => {
    expect(fields.get('JobState')).toBe('FAILED')
    expect(fields.get('ExitCode')).toBe('7:0')
  })

  test('prints every number once, to its output and through tee, and runs its trap', async () => {
    const numbers = Array.from({ length: count }, (_, i) => String(i + 1))
    const lines = (await on('ctl', `cat ${directory}/out.txt`)).split('\n')
    expect(lines).toEqual([...numbers, 'trap ran'])
    expect((await on('ctl', `cat ${directory}/count.txt`)).split('\n')).toEqual(numbers)
  })
})

describe('a job with 2 GB of resident memory', () => {
  test('is sealed before its walltime with the default margins', () => {
    const sealed = saved.events.find((event) => event.kind === 'sealed')
    expect(sealed?.at).toBeLessThan(hog.walltimeEndsAt)
  })

  test('ends right on another node', () => {
    expect(hogFields.get('BatchHost')).not.toBe(hog.node)
  })
})
