import { beforeAll, describe, expect, test } from '@jest/globals'
import { begin, fixtures, on, tryOn, until, untilEnded, untilRunning, untilState, submit, printed, workDirectory } from '../../support/cluster.ts'
import { bobIsSavedAndRestored, bobStarts, descriptorsOf, flood, probe, restFloods, type Delays, type Flood } from '../../support/floods.ts'

const minute = 60_000
/** What fills the socket's queue in the kernel, and what fills the daemon. */
const turns: readonly (readonly Flood[])[] = [['idle', 'hung-up'], restFloods.filter((kind) => kind !== 'idle' && kind !== 'hung-up')]
const secondsEach = 10

const start = <T>(act: () => Promise<T>): Promise<T> => begin({ it: act }).it

describe('while alice floods the REST socket in every way', () => {
  let work: { floods: Promise<[Flood, Record<string, number>][]>; bob: Promise<number>; root: Promise<Delays>; descriptors: Promise<number> }

  beforeAll(() => {
    work = {
      floods: start(async () => {
        const found: [Flood, Record<string, number>][] = []
        for (const kinds of turns) found.push(...await Promise.all(kinds.map(async (kind): Promise<[Flood, Record<string, number>]> => [kind, await flood('n1', kind, secondsEach)])))
        return found
      }),
      bob: start(async () => {
        const [job] = await Promise.all([bobStarts('n1', 120), bobStarts('n1', 15)])
        await bobIsSavedAndRestored('n1', job)
        await on('ctl', `scancel ${job.job}`)
        return job.openedAfter
      }),
      root: start(async () => probe('n1', turns.length * secondsEach)),
      descriptors: start(async () => {
        let most = 0
        for (let i = 0; i < 5; i++) most = Math.max(most, await descriptorsOf('n1'))
        return most
      }),
    }
  })

  test("bob's jobs start under Stint, are saved and restored", async () => {
    expect(await work.bob).toBeLessThan(15_000)
  }, 3 * minute)

  test("the daemon's descriptors are not used up, and root is answered", async () => {
    const descriptors = await work.descriptors
    expect(descriptors).toBeGreaterThan(10)
    expect(descriptors).toBeLessThan(400)
    const { asked, median } = await work.root
    expect(asked).toBeGreaterThan(5)
    expect(median).toBeLessThan(1000)
  }, minute)

  test('alice is told that she is over her budget, and served again when she rests', async () => {
    const floods = await work.floods
    expect(floods.map(([kind]) => kind)).toEqual(turns.flat())
    // Requests sent without waiting for answers are paid for all the same.
    await flood('n1', 'pipelined', 2)
    expect(await tryOn('n1', 'stint status', { user: 'alice' })).toMatchObject({ exitCode: 75, stderr: expect.stringMatching(/E_OVER_BUDGET.*limits\.requests_per_second/s) as unknown })
    expect((await tryOn('n1', 'stint status --json', { user: 'bob' })).exitCode).toBe(0)
    await until('alice is served again', 60, async () => (await tryOn('n1', 'stint status', { user: 'alice' })).exitCode !== 75)
    expect((await tryOn('n1', 'stint status --json', { user: 'alice' })).exitCode).toBe(0)
  }, 2 * minute)
})

test('a job script that its owner blows up is not read: the job is refused beforehand, and saved when it is small again', async () => {
  const directory = await workDirectory()
  const script = '#!/bin/bash\ncp "$0" small; truncate -s 3G "$0"; echo ready\nwhile [ ! -e go ]; do sleep 0.2; done\ntruncate -s "$(stat -c %s small)" "$0"; echo small\nsleep 60\n'
  const job = await submit({ directory, options: '--stint --time=5 --nodelist=n1', script })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  await until('it has grown', 20, async () => /ready/.test(await printed(directory)))
  const memory = async (): Promise<number> => Number(await on(node, "awk '/VmHWM/ {print $2}' /proc/$(pgrep -o -f '[d]aemon/main.ts')/status"))
  const before = await memory()
  const refused = await tryOn(node, `stint checkpoint ${job} --keep-running`, { user: 'alice' })
  expect([refused.exitCode, refused.stderr]).toEqual([5, expect.stringMatching(/E_PREFLIGHT.*limits\.script_mb/s)])
  expect(await memory() - before).toBeLessThan(500_000)
  await on('ctl', `touch ${directory}/go`, { user: 'alice' })
  await until('it is small again', 20, async () => /small/.test(await printed(directory)))
  expect((await tryOn(node, `stint checkpoint ${job} --keep-running`, { user: 'alice' })).exitCode).toBe(0)
  await on('ctl', `scancel ${job}`)
  await untilEnded(job, 30)
}, 2 * minute)

test('launches for a launcher that the job has stopped wait, then are refused with the reason; what is kept of them has a limit', async () => {
  const directory = await workDirectory()
  const script = `#!/bin/bash
export FLOOD_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
/usr/libexec/stint/stint-agent "$FLOOD_HOST" 'kill -STOP 1001' &
sleep 5
timeout 60 nice -n 19 python3 ${fixtures}/floods/flood.py launches 14
`
  const job = await submit({ directory, options: '--stint --time=5 -N 2 --ntasks-per-node=1', script })
  const node = await untilRunning(job)
  await until('the flood is over', 60, async () => /sent/.test(await printed(directory)))
  const counts = JSON.parse(/\{.*\}/.exec(await printed(directory))?.[0] ?? '{}') as { launched?: number; why?: string }
  expect(counts.launched).toBeLessThan(5)
  expect(counts.why).toMatch(/limits\.launch_book_mb/)
  expect(Number(await on(node, 'stat -c %s /var/lib/stint/catalogue.sqlite'))).toBeLessThan(50e6)
  await on('ctl', `scancel ${job}`)
  await untilEnded(job, 60)
}, 3 * minute)
