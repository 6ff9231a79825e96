import { beforeAll, describe, expect, test } from '@jest/globals'
import { begin, counter, numbers, on, printed, showJob, status, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory, type RunJson } from '../support/cluster.ts'

/** One job for each reason to save it, all at the same time; what is seen is what Slurm says of them. */

const minute = 60_000

interface Story {
  /** As `scontrol show job` has it at the end. */
  readonly fields: ReadonlyMap<string, string>
  readonly out: string
  readonly err: string
  /** Of the first stint, when it was over. */
  readonly run: RunJson
  readonly seen: Readonly<Record<string, string | number | undefined>>
}

/** Submits a counting job, disturbs it once it runs, waits for its end. */
async function story(options: string, steps: number, disturb: (job: number, node: string) => Promise<Story['seen']>): Promise<Story> {
  const directory = await workDirectory()
  const job = await submit({ directory, options, script: counter(steps) })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  const seen = await disturb(job, node)
  const run = await until(`node ${node} tells of job ${job}`, 30, async () => status(node, job))
  const fields = await untilEnded(job, 240)
  return { fields, run, seen, out: await printed(directory), err: await printed(directory, 'err.txt') }
}

/** Waits until Slurm has the job in its queue again, and says what its node has on record then. */
async function untilSaved(job: number, node: string, seconds: number): Promise<RunJson> {
  return until(`job ${job} is saved and requeued`, seconds, async () => {
    const run = await status(node, job)
    return run?.checkpoints.some((c) => c.state === 'requeued') === true && Number((await showJob(job)).get('Restarts')) > 0 ? run : undefined
  })
}

const triggersOf = (run: RunJson): string[] => run.checkpoints.filter((c) => c.state === 'requeued').map((c) => c.trigger)

let stories: Record<'doorbell' | 'shorter' | 'longer' | 'suspended' | 'every' | 'cron', Promise<Story>>

beforeAll(() => {
  stories = begin({
    doorbell: async () => story('--stint --time=10', 60, async (job, node) => {
      await on('ctl', `sleep 2; scancel --signal=USR1 --batch ${job}`, { user: 'alice' })
      return { triggers: triggersOf(await untilSaved(job, node, 60)).join() }
    }),
    // Five minutes become one, when the job has run for more than that: Slurm will end it within half a minute.
    shorter: async () => story('--stint --time=5', 400, async (job, node) => {
      await on('ctl', `sleep 61; scontrol update jobid=${job} timelimit=1`)
      return { triggers: triggersOf(await untilSaved(job, node, 60)).join() }
    }),
    // One minute becomes four: it is not saved in the first.
    longer: async () => story('--stint --time=1', 330, async (job) => {
      await on('ctl', `sleep 2; scontrol update jobid=${job} timelimit=4`)
      return {}
    }),
    suspended: async () => story('--stint --time=1', 300, async (job, node) => {
      await on('ctl', `sleep 5; scontrol suspend ${job}; sleep 3`)
      const refused = await tryOn(node, `stint checkpoint ${job}`)
      await on('ctl', `sleep 12; scontrol resume ${job}`)
      const moved = await until('the end has moved', 20, async () => {
        const run = await status(node, job)
        const end = (await showJob(job)).get('EndTime') ?? ''
        return run?.walltimeEndsAt === Date.parse(`${end}Z`) ? run : undefined
      })
      const saved = await untilSaved(job, node, 120)
      return { exitCode: refused.exitCode, stderr: refused.stderr, end: moved.walltimeEndsAt ?? NaN, opened: moved.events[0]?.at, savedAt: saved.checkpoints[0]?.startedAt, triggers: triggersOf(saved).join() }
    }),
    every: async () => story('--stint=every=5s --time=10', 150, async () => ({})),
    cron: async () => story('--stint=cron=*_*_*_*_* --time=10', 400, async () => ({})),
  })
}, minute)

describe('a job is saved', () => {
  test('when its owner rings: scancel --signal=USR1 --batch', async () => {
    const { fields, out, seen } = await stories.doorbell
    expect(seen['triggers']).toBe('signal')
    expect([fields.get('ExitCode'), fields.get('Restarts'), out]).toEqual(['3:0', '1', numbers(60)])
  }, 5 * minute)

  test('at once when an admin sets a limit that is over already', async () => {
    const { fields, out, seen } = await stories.shorter
    expect(seen['triggers']).toBe('walltime')
    expect([fields.get('ExitCode'), out]).toEqual(['3:0', numbers(400)])
  }, 8 * minute)

  test('not before its limit when an admin has moved that further', async () => {
    const { fields, out } = await stories.longer
    expect([fields.get('ExitCode'), fields.get('Restarts'), out]).toEqual(['3:0', '0', numbers(330)])
  }, 8 * minute)

  test('not while it is suspended; resumed it has its whole time', async () => {
    const { fields, out, seen } = await stories.suspended
    expect(seen['exitCode']).toBe(4)
    expect(seen['stderr']).toMatch(/E_SUSPENDED.*\n.*scontrol resume/)
    expect(Number(seen['end']) - Number(seen['opened'])).toBeGreaterThan(70_000)
    expect(Number(seen['savedAt']) - Number(seen['opened'])).toBeGreaterThan(60_000)
    expect(seen['triggers']).toBe('walltime')
    expect([fields.get('ExitCode'), fields.get('Restarts'), out]).toEqual(['3:0', '1', numbers(300)])
  }, 8 * minute)

  test('every few seconds with every=5s, and runs on', async () => {
    const { fields, out } = await stories.every
    const run = await status(fields.get('BatchHost') ?? '', Number(fields.get('JobId')))
    const periodic = run?.checkpoints.filter((c) => c.trigger === 'schedule') ?? []
    expect(periodic.filter((c) => c.state === 'sealed' && c.keepRunning).length).toBeGreaterThanOrEqual(2)
    expect([fields.get('ExitCode'), fields.get('Restarts'), out]).toEqual(['3:0', '0', numbers(150)])
  }, 8 * minute)

  test('by the clock with cron=*_*_*_*_*', async () => {
    const { fields, out } = await stories.cron
    const run = await status(fields.get('BatchHost') ?? '', Number(fields.get('JobId')))
    const [first] = run?.checkpoints ?? []
    expect([first?.trigger, first?.keepRunning, first?.state]).toEqual(['schedule', true, 'sealed'])
    // At a full minute, with the jitter of tests/cluster/etc/stint.toml and the time of a look.
    expect(((first?.startedAt ?? NaN) / 1000) % 60).toBeLessThan(15)
    expect([fields.get('ExitCode'), fields.get('Restarts'), out]).toEqual(['3:0', '0', numbers(400)])
  }, 8 * minute)
})

describe('the writers of a store', () => {
  test('are counted over nodes: a periodic checkpoint waits for its turn, one that is asked for does not; a dead holder gives its place back', async () => {
    const job = await submit({ directory: await workDirectory(), options: '--stint=every=2s --time=10 --nodelist=n1', script: counter(1000) })
    await untilRunning(job)
    await untilState('n1', job, 'running')
    await until('the first periodic checkpoint is made', 60, async () => (await status('n1', job))?.checkpoints.some((c) => c.state === 'sealed'))
    // Both places of tests/cluster/etc/stint.toml.
    const pids = await on('n2', 'cd /shared/stint/.slots; for n in 1 2; do setsid flock $n sleep 600 </dev/null >/dev/null 2>&1 & echo $!; done; sleep 1')
    try {
      await on('n1', 'sleep 5')
      const before = (await status('n1', job))?.checkpoints.length
      await on('n1', `sleep 8; stint checkpoint --keep-running ${job}`)
      const waiting = (await status('n1', job))?.checkpoints ?? []
      expect(waiting.slice(before).map((c) => c.trigger)).toEqual(['request'])
    } finally {
      await on('n2', `for pid in ${pids.split('\n').join(' ')}; do kill -KILL $pid $(pgrep -P $pid); done`)
    }
    const count = (await status('n1', job))?.checkpoints.length ?? 0
    await until('a periodic checkpoint is made again', 30, async () => ((await status('n1', job))?.checkpoints ?? []).slice(count).some((c) => c.trigger === 'schedule'))
    await on('ctl', `scancel ${job}`)
  }, 4 * minute)
})
