import { describe, expect, test } from '@jest/globals'
import { lookAtSchedule } from '../../daemon/run/periodic-watch.ts'
import type { Sandbox } from '../../daemon/context.ts'
import { parseOptions } from '../../daemon/core/options.ts'
import { makeContext } from '../support/context.ts'

const withOptions = (sandbox: Sandbox, text: string): Sandbox => ({ ...sandbox, options: parseOptions(text) })

describe('the next periodic checkpoint', () => {
  test('is never, unless the user or the site asks for it', async () => {
    await using made = makeContext()
    const sandbox = made.addSandbox(5)
    expect(lookAtSchedule(made.context, sandbox, Infinity)).toBe(Infinity)
    expect(sandbox.periodic).toEqual({ due: undefined, saving: false })
  })

  test.each([['every=30m', 1620, 1980], ['every=10s', 300, 300], ['every=auto', 900, 50_000], ['cron=*_*_*_*_*', 300, 300], ['cron=0_0_1_1_*', 300, 366 * 86_400]])('with %s is in %d to %d s, no sooner than the site lets', async (text, least, most) => {
    await using made = makeContext()
    const seconds = lookAtSchedule(made.context, withOptions(made.addSandbox(5), text), Infinity)
    expect(seconds).toBeGreaterThan(least - 1)
    expect(seconds).toBeLessThan(most + 1)
  })

  test('is left out when it would delay the walltime checkpoint', async () => {
    await using made = makeContext()
    const sandbox = withOptions(made.addSandbox(5), 'every=30m')
    sandbox.plan = { prediction: { bytes: 1, seconds: 10, spreadSeconds: 5, measured: 9 }, besideSeconds: 0 }
    sandbox.periodic = { due: 0, saving: false }
    expect(lookAtSchedule(made.context, sandbox, 34)).toBe(Infinity)
    expect(sandbox.periodic.saving).toBe(false)
    expect(sandbox.periodic.due).toBeGreaterThan(Date.now())
  })

  test('waits out a failure', async () => {
    await using made = makeContext()
    const sandbox = withOptions(made.addSandbox(5), 'every=30m')
    sandbox.periodic = { due: 0, saving: false }
    sandbox.notBefore = Date.now() + 20_000
    expect(lookAtSchedule(made.context, sandbox, Infinity)).toBeGreaterThan(15)
    expect(sandbox.periodic.saving).toBe(false)
  })

  test('by an expression that no clock shows is never, and the job is told', async () => {
    await using made = makeContext()
    const sandbox = withOptions(made.addSandbox(5), 'cron=0_25_*_*_*')
    const said: unknown[] = []
    sandbox.link = { send: (verb: string, words: unknown) => { said.push([verb, words]) } } as unknown as NonNullable<Sandbox['link']>
    expect(lookAtSchedule(made.context, sandbox, Infinity)).toBe(Infinity)
    expect(said).toEqual([['say', { text: expect.stringMatching(/^cron=0_25_\*_\*_\* is no time/) }]])
  })
})
