import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from '@jest/globals'
import { move, numbers, on, printed, showJob, status, submit, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { endHog, submitHog } from '../support/hog.ts'
import { testOnLanes } from '../support/lanes.ts'
import { moveOneNodeChecker } from '../support/mpi.ts'

/** Programs of many kinds, moved by their walltime and by request; at the same time, as on a cluster that has work. */

const minute = 60_000
const linpack = readFileSync(join(import.meta.dirname, '..', '..', 'slurm-scripts', 'examples', 'hpl.sh'), 'utf8')
/** Linear systems it solves one after the other, each with its own residual check. */
const systems = 8

/** Ranks that wait make room for those that compute: the machine below the virtual nodes has fewer cores than they say. */
const sharedCores = { OMPI_MCA_mpi_yield_when_idle: 1 }

const test = testOnLanes(['one', 'two', 'three'])

test('a script that counts crosses three stints on three nodes under one job id, prints every number once, to its output and through tee, runs its trap, and ends with its own exit code', async () => {
  /** Half-second steps: longer than a one-minute allocation. */
  const count = 150
  const directory = await workDirectory()
  const job = await submit({ directory, options: '--stint --time=1', script: 'count.sh', environment: { COUNT: count } })
  const first = await untilRunning(job)
  await until('its walltime has ended the first stint', 120, async () => (await showJob(job)).get('JobState') === 'PENDING')
  await on('ctl', `scontrol update jobid=${job} excnodelist=${first}`)
  const second = await untilRunning(job, 1, 150)
  await untilState(second, job, 'running')
  const [third = ''] = await move(job, second, 2, [first, second])
  const fields = await untilEnded(job, 120)
  expect(new Set([first, second, third]).size).toBe(3)
  expect(['Restarts', 'JobState', 'ExitCode'].map((name) => fields.get(name))).toEqual(['2', 'FAILED', '7:0'])
  expect(await printed(directory)).toBe(`${numbers(count)}\ntrap ran`)
  expect(await printed(directory, 'count.txt')).toBe(numbers(count))
}, 7 * minute)

test('a job with 2 GB of resident memory is sealed before its walltime with the default margins, and ends right on another node', async () => {
  const hog = await submitHog(2000, 2)
  const saved = await until('the hog is saved', 150, async () => {
    const run = await status(hog.node, hog.job)
    return run?.checkpoints.some((c) => c.state === 'requeued') === true ? run : undefined
  })
  await on('ctl', `scontrol update jobid=${hog.job} excnodelist=${hog.node}`)
  const fields = await endHog(hog)
  expect(saved.events.find((event) => event.kind === 'sealed')?.at).toBeLessThan(hog.walltimeEndsAt)
  expect(fields.get('BatchHost')).not.toBe(hog.node)
}, 5 * minute)

test('a job with everything a process can hold on to, saved three times and moved twice, ends with the same result as undisturbed', async () => {
  const steps = 100
  const [plain, stinted] = [await workDirectory(), await workDirectory()]
  const reference = await submit({ directory: plain, options: '--time=10', script: 'zoo.sh', environment: { STEPS: steps } })
  const job = await submit({ directory: stinted, options: '--stint --time=10', script: 'zoo.sh', environment: { STEPS: steps } })
  const first = await untilRunning(job)
  await untilState(first, job, 'running')
  await on(first, 'sleep 3')
  for (let n = 0; n < 3; n++) await on(first, `stint checkpoint ${job} --keep-running && sleep 1`)
  const [second = ''] = await move(job, first, 1)
  await on(second, 'sleep 2')
  const [third = ''] = await move(job, second, 2)
  expect(second).not.toBe(first)
  expect(third).not.toBe(second)
  await untilEnded(reference, 120)
  await untilEnded(job, 180)
  const undisturbed = await printed(plain)
  expect(undisturbed).toMatch(/DONE \(100, 5050\)/)
  expect(await printed(stinted)).toBe(undisturbed)
}, 6 * minute)

test('the Allreduce checker with MPICH, 4 ranks on one node, moved to another node, finds every number right', async () => {
  await moveOneNodeChecker(4)
}, 4 * minute)

test('HPL with Open MPI, 4 ranks on one node, moved to another node, passes its residual checks', async () => {
  const directory = await workDirectory()
  const job = await submit({ directory, options: '--stint --time=10 --ntasks=4', script: linpack, environment: { HPL_N: 2500, HPL_COUNT: systems, ...sharedCores } })
  const node = await untilRunning(job)
  const output = `${directory}/hpl-${job}/hpccoutf.txt`
  await on(node, `timeout 120 sh -c 'until grep -q "Begin of HPL" ${output}; do sleep 0.2; done'; sleep 1`)
  expect(await on(node, `tail -n 1 ${output}`)).not.toMatch(/End of HPC Challenge/)
  expect(await move(job, node, 1)).not.toContain(node)
  expect((await untilEnded(job, 300)).get('ExitCode')).toBe('0:0')
  const results = await on('ctl', `cat ${output}`)
  expect(results.match(/\.\.\.\.\.\. PASSED/g)).toHaveLength(systems)
  expect(results).not.toMatch(/FAILED/)
}, 8 * minute)
