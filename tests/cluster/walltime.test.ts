import { beforeAll, describe, expect, test } from '@jest/globals'
import { on, showJob, submit, until, untilEnded, untilRunning, workDirectory } from '../support/cluster.ts'

/** Numbers the job should print in COUNT half-second steps: more than two minutes of work in one-minute allocations. */
const count = 230

describe('a job that needs more time than its limit', () => {
  let directory: string
  let job: number
  let fields: ReadonlyMap<string, string>
  const nodes: string[] = []

  beforeAll(async () => {
    directory = await workDirectory()
    job = await submit({ directory, options: '--stint --time=1', script: 'count.sh', environment: { COUNT: count } })
    // After each stint its node is excluded, so that the job must move.
    for (let restarts = 0; restarts < 3; restarts++) {
      nodes.push(await untilRunning(job, restarts, 150))
      await on('ctl', `scontrol update jobid=${job} excnodelist=${nodes.join(',')}`).catch(() => undefined)
      if (restarts < 2) {
        await until(`stint ${restarts + 1} has ended`, 120, async () => (await showJob(job)).get('JobState') === 'PENDING')
        await on('ctl', `scontrol update jobid=${job} excnodelist=${nodes.join(',')}`)
      }
    }
    fields = await untilEnded(job, 120)
  }, 420_000)

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
