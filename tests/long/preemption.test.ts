import { beforeAll, describe, expect, test } from '@jest/globals'
import { atOnce, begin, counter, numbers, on, printed, showJob, status, submit, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { submitHog } from '../support/hog.ts'

/** Jobs that must give way to others, in every way Slurm has for it. The partition `batch` has GraceTime 20 and REQUEUE. */

const minute = 60_000
const partitions = [
  'PartitionName=requeue0 PriorityTier=1 GraceTime=0 PreemptMode=REQUEUE',
  'PartitionName=cancel0 PriorityTier=1 GraceTime=0 PreemptMode=CANCEL',
  'PartitionName=cancel20 PriorityTier=1 GraceTime=20 PreemptMode=CANCEL',
]

/** A job that takes the nodes it names from whatever runs there, for a second. */
async function preempt(nodes: string, time = 1): Promise<void> {
  await submit({ directory: await workDirectory(), options: `--partition=urgent --time=${time} --nodelist=${nodes} --exclusive`, script: '#!/bin/bash\nsleep 1\n' })
}

interface Preempted { trigger: string | undefined; exitCode: string | undefined; restarts: string | undefined; out: string; secondsBeforeGraceEnds: number }

/** A counting job in a partition, preempted, followed to its own end. */
async function preempted(partition: string, node: string): Promise<Preempted> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 --partition=${partition} --nodelist=${node} --exclusive`, script: counter(200) })
  await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, 'sleep 2')
  await preempt(node)
  const started = Date.now()
  const run = await until(`job ${job} is saved and requeued`, 60, async () => {
    const found = await status(node, job)
    return found?.checkpoints.some((c) => c.state === 'requeued') === true && Number((await showJob(job)).get('Restarts')) > 0 ? found : undefined
  })
  const [checkpoint] = run.checkpoints
  const fields = await untilEnded(job, 180)
  return {
    trigger: checkpoint?.trigger, exitCode: fields.get('ExitCode'), restarts: fields.get('Restarts'), out: await printed(directory),
    secondsBeforeGraceEnds: 20 - ((checkpoint?.startedAt ?? NaN) - started) / 1000,
  }
}

let modes: Record<'requeue0' | 'cancel0' | 'cancel20', Promise<Preempted>>

beforeAll(async () => {
  for (const partition of partitions) await on('ctl', `scontrol create ${partition} Nodes=ALL MaxTime=60`)
  modes = begin({
    requeue0: async () => preempted('requeue0', 'n1'),
    cancel0: async () => preempted('cancel0', 'n2'),
    cancel20: async () => preempted('cancel20', 'n3'),
  })
  await Promise.allSettled(Object.values(modes))
}, 8 * minute)

describe('a preempted job is saved and goes on to its own end', () => {
  test.each(['requeue0', 'cancel0', 'cancel20'] as const)('in the partition %s, whatever the mode, once', async (partition) => {
    const { trigger, exitCode, restarts, out } = await modes[partition]
    // After a grace Slurm before 26.05 records exit code 0 for every job (docs/user-guide.md).
    expect([trigger, exitCode, restarts]).toEqual(['preemption', partition === 'cancel20' ? expect.stringMatching(/^[03]:0$/) : '3:0', '1'])
    expect(out).toBe(numbers(200))
  })

  test('in its GraceTime, not when that is over: the nodes are wanted', async () => {
    expect((await modes.cancel20).secondsBeforeGraceEnds).toBeGreaterThan(5)
  })
})

describe('ten jobs of 200 MB on three nodes that must all give way at once', () => {
  test('are all saved in 20 s of grace, by the doorbell, and all end with the right memory', async () => {
    const hogs = await Promise.all(Array.from({ length: 10 }, async () => submitHog(200, 10, '--signal=B:USR1@20')))
    expect(new Set(hogs.map((hog) => hog.node)).size).toBe(3)
    await preempt('n1,n2,n3')
    await atOnce(hogs, async ({ job, node }) => {
      const run = await until(`job ${job} is saved`, 60, async () => {
        const found = await status(node, job)
        return found?.checkpoints.some((c) => c.state === 'requeued') === true ? found : undefined
      })
      expect(run.checkpoints.map((c) => [c.state, c.error])).toEqual([['requeued', null]])
      expect(['signal', 'preemption']).toContain(run.checkpoints[0]?.trigger)
    })
    // Not followed to its state in Slurm: after a grace slurmctld starts any job once more when it has ended (docs/user-guide.md).
    await atOnce(hogs, async ({ job, directory }) => {
      await untilRunning(job, 1, 120)
      await on('ctl', `touch ${directory}/end`, { user: 'alice' })
      await untilPrinted(directory, /^DONE/m, 60)
      expect(await printed(directory)).toMatch(/^DONE True/m)
      await on('ctl', `scancel ${job}`)
    })
  }, 8 * minute)
})
