import { describe, expect, test } from '@jest/globals'
import { checkpoint } from '../../daemon/run/checkpoint.ts'
import type { Context, Sandbox } from '../../daemon/context.ts'
import { justEnded, nextTryAt, recordFailure, recordSuccess } from '../../daemon/run/failed-save.ts'
import { tellObstacles } from '../../daemon/member/preflight.ts'
import { StintError, errorKinds } from '../../daemon/core/errors.ts'
import type { Obstacle } from '../../daemon/core/obstacles.ts'
import { clockTime, failureText, nextTry, replaces } from '../../daemon/core/save-failure.ts'
import { HeldProcess } from '../../daemon/linux/held-process.ts'
import { said } from '../support/errors.ts'
import { makeContext } from '../support/context.ts'

/** Instants of all tries that fail at once, from the first to `until`, seconds; by the pauses alone. */
function tries(first: number, latest: number, until: number, retrySeconds = 30): number[] {
  const all = [first]
  for (let at = first; ; ) {
    at = nextTry({ count: all.length, at }, latest, retrySeconds)
    if (at > until) return all
    all.push(at)
  }
}

describe('a save that has failed before the end is tried again', () => {
  test('with pauses that double', () => {
    expect(tries(0, 1000, 300)).toEqual([0, 30, 90, 210])
    expect(tries(0, 1e6, 3000).slice(-3)).toEqual([1530, 2130, 2730])
  })

  test('at the last moment that is in time, and a few times in the time that Slurm leaves it', () => {
    expect(tries(97, 99.7, 160)).toEqual([97, 99.7, 109.7, 129.7, 159.7])
    expect(tries(0, 100, 130)).toEqual([0, 30, 90, 100, 130])
  })

  test.each([[0, 2.6], [0, 60], [0, 0.1], [30, 300], [5, 61]])('never so often that it burdens the node: at %d, %d s before the last moment', (first, room) => {
    const all = tries(first, first + room, first + 600)
    for (let from = first; from < first + 540; from++) expect(all.filter((at) => at >= from && at < from + 60).length).toBeLessThanOrEqual(6)
    expect(all.some((at) => at > first && at <= first + room)).toBe(room >= 2)
  })

  test('whatever the site has chosen for the pause, never at once', () => {
    for (const retry of [0, 1, 30, 3600]) expect(nextTry({ count: 5, at: 100 }, 90, retry)).toBeGreaterThanOrEqual(105)
  })
})

describe('the reason on record', () => {
  const error = (code: ConstructorParameters<typeof StintError>[0], details = {}): StintError => new StintError(code, 'x', { details })
  test.each<[string, StintError, string | null, boolean, boolean]>([
    ['a first reason is kept', error('E_PREFLIGHT'), null, false, true],
    ['a later one takes its place', error('E_STORE_FULL'), 'y', false, true],
    ['not while Slurm is ending the job', error('E_STORE_FULL'), 'y', true, false],
    ['a job that is just not to be reached hides nothing', error('E_NOT_RUNNING'), 'y', false, false],
    ['but is a reason where there is none', error('E_SUSPENDED'), null, false, true],
    ['that the job has ended is none', error('E_NOT_RUNNING', { over: true }), null, false, false],
  ])('%s', (_, found, recorded, isEnding, expected) => {
    expect(replaces(found, recorded, isEnding)).toBe(expected)
  })

  test('says nothing of the job that may be untrue when it is read', () => {
    for (const { hint } of Object.values(errorKinds)) expect(hint).not.toMatch(/runs on|undisturbed|running on/)
  })
})

describe('what the owner reads', () => {
  const noon = new Date(2026, 10, 28, 12, 0, 0).getTime()
  const refused = { message: 'python3 (PID 1004) uses a message queue', hint: 'Close it.' }

  test('before the time limit: the reason, the remedy, when the job ends, the next try, and what is lost', () => {
    const outlook = { now: noon - 60_000, end: noon, next: noon - 30_000, saved: { number: 2, at: noon - 3_600_000 } }
    expect(failureText('walltime', refused, outlook)).toBe('this job could not be saved before its time limit: python3 (PID 1004) uses a message queue. Close it. It will end at 12:00:00 unless a later try succeeds; the next try is at 11:59:30. Then what it has done since checkpoint 2 (11:00:00) is lost.')
  })

  test('after it: that Slurm is ending the job', () => {
    expect(failureText('walltime', refused, { now: noon, end: noon - 1, next: noon + 5000, saved: undefined })).toMatch(/Slurm is ending it now: .*the next try is at 12:00:05\. Then what it has done since its start is lost\.$/)
  })

  test.each([['drain', /It runs on here/], ['schedule', /The job runs on/], ['signal', /The job runs on/], ['preemption', /for another job: .* It will end at/]] as const)('by %s', (trigger, expected) => {
    expect(failureText(trigger, refused, { now: noon - 1000, end: noon, next: undefined, saved: undefined })).toMatch(expected)
  })

  test('a request is answered where it was made', () => {
    expect(failureText('request', refused, { now: noon, end: null, next: undefined, saved: undefined })).toBeUndefined()
  })

  test('another day has its date', () => {
    expect(clockTime(noon, noon + 24 * 3_600_000)).toBe('2026-11-28 12:00:00')
  })
})

/** A sandbox whose owner's standard error is read. */
function withOwner(context: Context, sandbox: Sandbox): { sandbox: Sandbox; told: string[] } {
  const told: string[] = []
  sandbox.link = { send: (verb: string, words: { text: string }) => { if (verb === 'say') told.push(words.text) } } as unknown as NonNullable<Sandbox['link']>
  context.catalogue.members.setEndTime(sandbox.memberId, Date.now() + 60_000)
  return { sandbox, told }
}

const queue = (pid: number): StintError => new StintError('E_PREFLIGHT', `python3 (PID ${pid}) uses a message queue`, { hint: 'Close it.' })

describe('a save that fails', () => {
  test('is told once for each reason, and again when a save has succeeded between', async () => {
    await using made = makeContext()
    const { sandbox, told } = withOwner(made.context, made.addSandbox(5))
    for (const pid of [1004, 1007, 1008]) recordFailure(made.context, sandbox, 'walltime', queue(pid))
    recordFailure(made.context, sandbox, 'walltime', new StintError('E_STORE_FULL', 'no room'))
    expect(told.map((text) => text.slice(0, 90))).toEqual([expect.stringContaining('message queue'), expect.stringContaining('no room')])
    recordSuccess(made.context, sandbox)
    expect(told.at(-1)).toMatch(/^this job is saved now; .*message queue; no room$/)
    recordFailure(made.context, sandbox, 'walltime', queue(1009))
    expect(told).toHaveLength(4)
  })

  test('pauses the tries before the end only when it was one of them', async () => {
    await using made = makeContext()
    const { sandbox } = withOwner(made.context, made.addSandbox(5))
    recordFailure(made.context, sandbox, 'request', queue(1))
    recordFailure(made.context, sandbox, 'schedule', queue(1))
    expect(nextTryAt(made.context, sandbox)).toBe(0)
    recordFailure(made.context, sandbox, 'walltime', queue(1))
    expect(nextTryAt(made.context, sandbox)).toBeGreaterThan(Date.now() / 1000 + 20)
  })

  test('while the guard is away is told when it is back', async () => {
    await using made = makeContext()
    const { sandbox, told } = withOwner(made.context, made.addSandbox(5))
    const { link } = sandbox
    sandbox.link = undefined
    recordFailure(made.context, sandbox, 'walltime', queue(1))
    sandbox.link = link
    recordFailure(made.context, sandbox, 'walltime', queue(2))
    expect(told).toHaveLength(1)
  })

  test('because the job has ended is not told, and leaves the reason on record', async () => {
    await using made = makeContext()
    const { sandbox, told } = withOwner(made.context, made.addSandbox(5))
    recordFailure(made.context, sandbox, 'walltime', queue(1004))
    recordFailure(made.context, sandbox, 'walltime', justEnded(sandbox))
    expect(told).toHaveLength(1)
    expect(made.context.catalogue.runs.get(sandbox.run.id)?.error).toBe('python3 (PID 1004) uses a message queue. Close it.')
  })

  test('of a payload that is not there any more has no other reason than that', async () => {
    await using made = makeContext()
    const { sandbox, told } = withOwner(made.context, made.addSandbox(5))
    expect(await said(() => checkpoint(made.context, { ...sandbox, pid1: HeldProcess.open(2 ** 22) }, { trigger: 'walltime', keepRunning: true }))).toBe('E_NOT_RUNNING: job 5 has just ended')
    expect([told, made.context.catalogue.runs.get(sandbox.run.id)?.error]).toEqual([[], null])
  })
})

describe('what stands in the way while the job runs', () => {
  const obstacle: Obstacle = { kind: 'outside-file', message: 'python3 uses a message queue', remedy: 'Close it.' }

  test('is told with the end of the job, and when it has gone', async () => {
    await using made = makeContext()
    const { sandbox, told } = withOwner(made.context, made.addSandbox(5))
    const end = Date.now() + 60_000
    for (const found of [[obstacle], [obstacle], [obstacle], [], [obstacle], [], [], []]) tellObstacles(sandbox, found, end)
    expect(told).toEqual([
      `the job cannot be saved as it is: python3 uses a message queue. Close it. Unless this changes, it ends unsaved at ${clockTime(end, Date.now())}.`,
      'the job can be saved again: nothing stands in the way any more',
    ])
  })
})
