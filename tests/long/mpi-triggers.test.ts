import { beforeAll, describe, expect, test } from '@jest/globals'
import { begin, nodesOf, on, printed, showJob, status, submit, until, untilEnded, untilRunning, workDirectory, type RunJson } from '../support/cluster.ts'
import { buildChecker, rightFor, submitChecker, untilFurther, untilStep, type MpiJob } from '../support/mpi.ts'

/** The reasons to save a job, with jobs of two nodes; all at the same time. Drain: array-and-drain.test.ts. */

const minute = 60_000

interface Story { readonly job: MpiJob; readonly fields: ReadonlyMap<string, string>; readonly done: string; readonly run: RunJson; readonly nodes: readonly string[] }

/**
 * Starts a checker on two nodes, disturbs it, lets it make some more steps and end; `run` is what its first node has on record once it is requeued or over.
 * @param follow to its state in Slurm; after a grace slurmctld starts any job once more when it has ended (docs/user-guide.md)
 */
async function story(options: string, disturb: (job: number, nodes: readonly string[]) => Promise<void>, follow = true): Promise<Story> {
  const job = await submitChecker('openmpi', { directory: await buildChecker(['openmpi']), nodes: 2, perNode: 1, steps: 1_000_000, options })
  const node = await untilRunning(job.job)
  await untilStep(job, 50)
  const nodes = await nodesOf(job.job)
  await disturb(job.job, nodes)
  await untilFurther(job)
  await on('ctl', `touch ${job.directory}/end`, { user: 'alice' })
  const done = await until(`job ${job.job} has done its work`, 60, async () => (await printed(job.directory)).match(/^(DONE|WRONG).*$/gm)?.join('\n'))
  const fields = follow ? await untilEnded(job.job, 60) : await showJob(job.job)
  const run = await until(`node ${node} tells of job ${job.job}`, 30, async () => status(node, job.job))
  return { job, fields, run, nodes, done }
}

async function untilRequeued(job: number): Promise<void> {
  await until(`job ${job} is requeued`, 120, async () => Number((await showJob(job)).get('Restarts')) > 0)
}

let stories: Record<'walltime' | 'doorbell' | 'preemption' | 'schedule', Promise<Story>>

beforeAll(() => {
  stories = begin({
    walltime: async () => story('--time=1 --nodelist=n1,n2', untilRequeued),
    doorbell: async () => story('--nodelist=n2,n3', async (job) => {
      await on('ctl', `scancel --signal=USR1 --batch ${job}`, { user: 'alice' })
      await untilRequeued(job)
    }),
    preemption: async () => story('--nodelist=n4,n5', async (job, nodes) => {
      // Of a member's node alone: Slurm ends the whole job for it.
      await submit({ directory: await workDirectory(), options: `--partition=urgent --time=1 --nodelist=${nodes[1] ?? ''} --exclusive`, script: '#!/bin/bash\nsleep 1\n' })
      await untilRequeued(job)
    }, false),
    schedule: async () => story('--stint=every=5s --nodelist=n1,n3', async (job) => {
      await until(`job ${job} is saved twice`, 120, async () => ((await status('n1', job))?.checkpoints.filter((c) => c.state === 'sealed').length ?? 0) >= 2)
    }),
  })
}, minute)

describe('a job of two nodes is saved and goes on', () => {
  test.each(['walltime', 'preemption'] as const)('by %s', async (name) => {
    const { job, fields, run, done } = await stories[name]
    expect(run.checkpoints.filter((c) => c.state === 'requeued').map((c) => c.trigger)).toContain(name)
    expect([fields.get('ExitCode'), done]).toEqual(['0:0', rightFor(done, job.ranks)])
    expect(Number(fields.get('Restarts'))).toBeGreaterThan(0)
  }, 8 * minute)

  test('when its owner rings', async () => {
    const { job, fields, run, done } = await stories.doorbell
    expect(run.checkpoints.filter((c) => c.state === 'requeued').map((c) => c.trigger)).toEqual(['signal'])
    expect([fields.get('ExitCode'), fields.get('Restarts'), done]).toEqual(['0:0', '1', rightFor(done, job.ranks)])
  }, 8 * minute)

  test('every few seconds with every=5s, and runs on', async () => {
    const { job, fields, run, done } = await stories.schedule
    expect(run.checkpoints.filter((c) => c.trigger === 'schedule' && c.keepRunning && c.state === 'sealed').length).toBeGreaterThanOrEqual(2)
    expect([fields.get('ExitCode'), fields.get('Restarts'), done]).toEqual(['0:0', '0', rightFor(done, job.ranks)])
  }, 8 * minute)
})
