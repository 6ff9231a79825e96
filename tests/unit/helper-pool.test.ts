import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HelperPool } from '../../daemon/linux/helper-pool.ts'
import { refusal } from '../support/errors.ts'

/** Work that must not stop the event loop is done by helper processes. */

const alice = 1001
const bob = 1002

let pool: HelperPool
beforeEach(() => { pool = new HelperPool({ program: join(import.meta.dirname, '../fixtures/programs/helper.ts'), size: 2, memoryMb: 64, setup: 'set up' }) })
afterEach(() => { pool[Symbol.dispose]() })

const ask = async (uid: number, work: object, more: { urgent?: boolean; seconds?: number } = {}): Promise<{ name: string; pid: number }> =>
  pool.run({ uid, work, urgent: more.urgent ?? false, seconds: more.seconds ?? 20 }) as Promise<{ name: string; pid: number }>

describe('a helper process', () => {
  test('is set up, does one thing after another, and tells errors as they are', async () => {
    const first = await ask(alice, { name: 'a' })
    expect(first).toMatchObject({ setup: 'set up', name: 'a' })
    expect(await refusal(async () => ask(alice, { name: 'fail' }))).toMatchObject({ code: 'E_PREFLIGHT', message: 'no', hint: 'do', details: { why: 'not' } })
    expect((await ask(bob, { name: 'b' })).pid).toBe(first.pid)
  })

  test('that goes on for too long is ended, while the event loop turns and others are served', async () => {
    const spinning = refusal(async () => ask(alice, { name: 'spin' }, { seconds: 1 }))
    expect(await ask(bob, { name: 'b' })).toMatchObject({ name: 'b' })
    expect(await spinning).toMatchObject({ details: { helperLost: 'time' } })
    await sleep(100)
    expect(await ask(alice, { name: 'a' })).toMatchObject({ name: 'a' })
  })

  test('that takes too much memory ends, and nothing else does', async () => {
    expect(await refusal(async () => ask(alice, { name: 'fill' }))).toMatchObject({ details: { helperLost: 'end' } })
    expect(await ask(alice, { name: 'a' })).toMatchObject({ name: 'a' })
  })

  test('is left to others by a user who asks for much', async () => {
    const order: string[] = []
    const note = async (uid: number, name: string, milliseconds: number): Promise<void> => { order.push((await ask(uid, { name, milliseconds })).name) }
    await Promise.all([...Array.from({ length: 4 }, async (_, n) => note(alice, `alice ${n}`, 500)), note(bob, 'bob', 0)])
    expect(order[0]).toBe('bob')
  })

  test('does first what a frozen payload waits for', async () => {
    const order: string[] = []
    const note = async (name: string, urgent: boolean): Promise<void> => { order.push((await ask(alice, { name, milliseconds: 100 }, { urgent })).name) }
    await Promise.all([note('first', false), note('second', false), note('frozen', true)])
    expect(order).toEqual(['first', 'frozen', 'second'])
  })
})
