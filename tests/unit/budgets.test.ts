import { describe, expect, test } from '@jest/globals'
import { mkdtempSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { Budgets, LogBudget, Places, Rate, assertCheckpointsLeft, withRequestPlace } from '../../daemon/core/budgets.ts'
import { resolveConfig } from '../../daemon/core/config.ts'
import { addLaunch, addOutput, emptyBook, endLaunch, nextOrder, runningCount, unfetchedBytes } from '../../daemon/core/launch-book.ts'
import { copyBounded } from '../../daemon/linux/bounded-copy.ts'
import { SharedExamination } from '../../daemon/node/doctor.ts'
import { alice, makeContext } from '../support/context.ts'

const bob = 1002
const { limits } = resolveConfig({})

describe('places', () => {
  test('one user has so many at once, another has as many, root has no limit', () => {
    const places = new Places(2)
    const first = places.take(alice)
    expect([first, places.take(alice), places.take(alice)].map((place) => place !== undefined)).toEqual([true, true, false])
    expect(places.take(bob)).toBeDefined()
    for (let i = 0; i < 10; i++) expect(places.take(0)).toBeDefined()
    first?.[Symbol.dispose]()
    first?.[Symbol.dispose]()
    expect([places.take(alice), places.take(alice)].map((place) => place !== undefined)).toEqual([true, false])
  })

  test('a place is free again when the work on a request fails', async () => {
    const budgets = new Budgets({ ...limits, requests_per_user: 1 })
    const tight = { ...limits, requests_per_user: 1 }
    await expect(withRequestPlace(budgets, tight, alice, async () => {
      await expect(withRequestPlace(budgets, tight, alice, () => Promise.resolve(1))).rejects.toMatchObject({ code: 'E_OVER_BUDGET' })
      throw new Error('no')
    })).rejects.toThrow('no')
    await expect(withRequestPlace(budgets, tight, alice, () => Promise.resolve(2))).resolves.toBe(2)
  })
})

describe('a rate', () => {
  test('lets a rested user take a burst, then so much a second, and says when there is more', () => {
    const rate = new Rate(2, 4)
    expect([1, 2, 3, 4, 5].map(() => rate.take(alice, 1000))).toEqual([true, true, true, true, false])
    expect(rate.take(bob, 1000)).toBe(true)
    expect(rate.secondsUntil(alice, 1000)).toBe(1)
    expect([rate.take(alice, 1500), rate.take(alice, 1500)]).toEqual([true, false])
    expect(rate.take(0, 1500, 1e9)).toBe(true)
  })

  test('what costs more than is left is let through once and paid for afterwards; a debt has a limit', () => {
    const rate = new Rate(1, 10)
    expect([rate.take(alice, 0, 25), rate.take(alice, 14_000), rate.take(alice, 16_000)]).toEqual([true, false, true])
    for (let i = 0; i < 100; i++) rate.charge(alice, 16_000, 100)
    expect(rate.secondsUntil(alice, 16_000)).toBe(11)
  })

  test('a clock that was set back gives nothing', () => {
    const rate = new Rate(1, 1)
    expect([rate.take(alice, 10_000), rate.take(alice, 0)]).toEqual([true, false])
  })

  test('many users who have rested are forgotten', () => {
    const rate = new Rate(1, 1)
    for (let uid = 1; uid < 5000; uid++) expect(rate.take(uid, uid * 10)).toBe(true)
  })
})

test('checkpoints on request are counted by the hour; the refusal says when, and that the job is still saved', () => {
  const tight = { ...limits, checkpoints_per_hour: 2 }
  const budgets = new Budgets(tight)
  const ask = (now: number) => () => { assertCheckpointsLeft(budgets, tight, alice, now) }
  ask(0)()
  ask(0)()
  expect(ask(1000)).toThrow(/is still saved before its walltime/)
  ask(1_800_001)()
})

test('of log lines over the budget the number is told with the next', () => {
  const log = new LogBudget(2)
  expect([0, 0, 0, 0].map((now) => log.line(alice, now))).toEqual([{}, {}, undefined, undefined])
  expect(log.line(bob, 0)).toEqual({})
  expect(log.line(alice, 60_000)).toEqual({ suppressed: 2 })
})

test('a launch book tells what is unfetched and what runs', () => {
  const sender = { member: 0, pid: 5, once: 'a' }
  const { book, id } = addLaunch(emptyBook, sender, 1, new Uint8Array(300_000))
  expect([unfetchedBytes(book), runningCount(book)]).toEqual([400_000, 1])
  const { book: fetched, order } = nextOrder(book, 1, 0)
  expect(unfetchedBytes(nextOrder(fetched, 1, order?.seq ?? 0).book)).toBe(0)
  expect(unfetchedBytes(addOutput(nextOrder(fetched, 1, order?.seq ?? 0).book, id, 'stdout', 0, new Uint8Array(3)))).toBe(4)
  expect(runningCount(endLaunch(book, id, 0))).toBe(0)
})

describe('a bounded copy', () => {
  const folder = mkdtempSync(join(tmpdir(), 'stint-copy-'))
  const path = (name: string): string => join(folder, name)
  const limit = { what: 'the job script', bytes: 1e6, setting: 'limits.script_mb' }

  test('has the same bytes, up to the limit', async () => {
    writeFileSync(path('whole'), Buffer.alloc(1e6, 'x'))
    await copyBounded(path('whole'), path('whole.copy'), 0o600, limit)
    expect(readFileSync(path('whole.copy')).equals(readFileSync(path('whole')))).toBe(true)
  })

  test('is refused of a file that is larger, at once however large', async () => {
    writeFileSync(path('large'), '')
    truncateSync(path('large'), 2e12)
    await expect(copyBounded(path('large'), path('large.copy'), 0o600, limit)).rejects.toMatchObject({ code: 'E_OVER_BUDGET', message: expect.stringContaining('limits.script_mb') as unknown })
  })

  test('does not wait at a FIFO, and follows no link', async () => {
    await execa('mkfifo', [path('fifo')])
    symlinkSync(path('whole'), path('link'))
    await expect(copyBounded(path('fifo'), path('fifo.copy'), 0o600, limit)).rejects.toMatchObject({ code: 'E_NOT_VERIFIED' })
    await expect(copyBounded(path('link'), path('link.copy'), 0o600, limit)).rejects.toMatchObject({ code: 'ELOOP' })
  })
})

test('users who ask for the doctor at the same time, or soon after each other, are told the same findings', async () => {
  await using made = makeContext()
  const shared = new SharedExamination(made.context)
  const [first, second] = await Promise.all([shared.findings(), shared.findings()])
  expect(second).toBe(first)
  expect(await shared.findings()).toBe(first)
})

test('of very many events of a run the oldest go, and a text in one has a limit', async () => {
  await using made = makeContext()
  made.addRun(5)
  const { events } = made.context.catalogue
  for (let i = 0; i < 1010; i++) events.add('run-5', i, 'notice', { text: 'x'.repeat(5000) })
  const kept = events.ofRun('run-5')
  expect([kept.length, kept[0]?.at, String(kept[0]?.detail['text']).length]).toEqual([1000, 10, 4000])
})
