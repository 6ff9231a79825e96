import { beforeAll, describe, expect, test } from '@jest/globals'
import { setTimeout as sleep } from 'node:timers/promises'
import { atOnce, cluster, fixtures, on, showJob, status, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

/** Files that a job has open for writing go back with it when it continues from an image of before. */

const minute = 60_000
const nodes = ['n1', 'n2', 'n3']
/** Rounds in which every node crashes once. */
const rounds = 2
const jobCount = 12
/** A crash is answered at once only when the batch job began more than so many seconds before (tests/cluster/README.md). */
const settleSeconds = 22
/** Long enough to be running in the last crash. */
const steps = 700
const program = `#!/bin/bash\nexec python3 ${fixtures}/programs/files.py ${steps} 0.2\n`

interface Run { readonly job: number; readonly directory: string }

async function start(stint: string): Promise<Run> {
  const directory = await workDirectory()
  return { directory, job: await submit({ directory, options: `${stint} --time=30 --open-mode=append`, script: program }) }
}

/** What the program leaves: its own account, its output, the names of its files. */
async function outcome({ directory }: Run): Promise<string> {
  return on('ctl', `cd ${directory}; cat result.txt; md5sum out.txt log.txt data.bin mapped.bin state.txt; ls | grep -vE '^(err.txt|wal.db-(wal|shm)|.*stint-aside)$'`)
}

/** Makes images of a running job at random instants until told to stop. */
async function imageNowAndThen(run: Run, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    await sleep(1000 + Math.random() * 6000)
    const fields = await showJob(run.job)
    const node = fields.get('BatchHost')
    // In vain while the job is not running, is being restored or has ended.
    if (fields.get('JobState') === 'RUNNING' && node !== undefined) await tryOn(node, `stint checkpoint --keep-running ${run.job}`)
  }
}

/** Waits until every job has run for a while since its `restarts`-th start. */
async function settle(runs: readonly Run[], restarts: number): Promise<void> {
  await atOnce(runs, async ({ job }) => {
    const node = await untilRunning(job, restarts, 150)
    await untilState(node, job, 'running', 60)
    await until(`job ${job} has an image`, 60, async () => ((await status(node, job))?.checkpoints.filter((c) => c.state === 'sealed').length ?? 0) > 0)
  })
  await sleep(settleSeconds * 1000)
}

async function crash(node: string): Promise<void> {
  await sleep(Math.random() * 5000)
  await cluster('crash', node)
  await cluster('boot', node)
}

describe('jobs that change files in every way, with images now and then, whose nodes crash', () => {
  let undisturbed: string
  let runs: Run[]
  let kills = 0
  const ends = new Map<number, ReadonlyMap<string, string>>()

  beforeAll(async () => {
    runs = await Promise.all(Array.from({ length: jobCount }, async () => start('--stint')))
    let over = false
    const images = atOnce(runs, async (run) => imageNowAndThen(run, () => over))
    try {
      for (let round = 0; round < rounds; round++) {
        await settle(runs, round)
        await atOnce(nodes, crash)
        kills += runs.length
      }
      await atOnce(runs, async ({ job }) => { ends.set(job, await untilEnded(job, 240)) })
    } finally {
      over = true
      await images
    }
    const plain = await start('')
    await untilEnded(plain.job, 240)
    undisturbed = await outcome(plain)
  }, 12 * minute)

  test('were killed more than 20 times, each job as often as there were rounds', () => {
    expect(kills).toBeGreaterThan(20)
    expect(runs.map(({ job }) => ends.get(job)?.get('Restarts'))).toEqual(runs.map(() => String(rounds)))
  })

  test('end as a job that nothing disturbed: log, records, mapping, databases, replaced and deleted files', async () => {
    expect(undisturbed).toContain("wal ([('ok',)]")
    for (const run of runs) {
      expect(ends.get(run.job)?.get('ExitCode')).toBe('0:0')
      expect(await outcome(run)).toBe(undisturbed)
    }
  })
})
