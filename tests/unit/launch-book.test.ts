import { describe, expect, test } from '@jest/globals'
import { Value } from 'typebox/value'
import { LaunchBook, addLaunch, addOutput, addSignal, emptyBook, endLaunch, loseMember, lostStatus, news, nextOrder, orderBody, requireLaunch } from '../../daemon/core/launch-book.ts'
import { said } from '../support/errors.ts'

const agent = { member: 0, pid: 1010, once: 'a' }
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (got: Uint8Array): string => new TextDecoder().decode(got)

/** A book with one command on member 2. */
function withOne(): LaunchBook {
  return addLaunch(emptyBook, agent, 2, bytes('cmd\0/\0A=1\0')).book
}

describe('a launch', () => {
  test('becomes an order for the launcher of its member, body and all', () => {
    const { order } = nextOrder(withOne(), 2, 0)
    expect(order).toMatchObject({ seq: 1, kind: 'start', launch: 1 })
    expect(order === undefined ? '' : text(orderBody(order))).toBe('cmd\0/\0A=1\0')
  })

  test('is no order for another member', () => {
    expect(nextOrder(withOne(), 1, 0).order).toBeUndefined()
  })

  test('that its agent sends again, since the answer was lost, is not made twice', () => {
    const again = addLaunch(withOne(), agent, 2, bytes('cmd\0/\0A=1\0'))
    expect([again.id, again.book.launches.length, again.book.orders.length]).toEqual([1, 1, 1])
  })

  test('of an agent with the same PID as an earlier one is a new one', () => {
    expect(addLaunch(endLaunch(withOne(), 1, 0), { ...agent, once: 'b' }, 2, bytes('x')).id).toBe(2)
  })

  test('that is not there is an error', async () => {
    expect(await said(() => requireLaunch(emptyBook, 7))).toBe('E_BAD_REQUEST: there is no launch 7')
  })

  test('that has ended is forgotten only when many have ended after it', () => {
    let book = endLaunch(withOne(), 1, 0)
    for (let pid = 2000; pid < 2070; pid++) {
      const { book: next, id } = addLaunch(book, { member: 0, pid, once: 'c' }, 1, bytes('x'))
      book = endLaunch(next, id, 0)
    }
    expect(book.launches.some((l) => l.id === 1)).toBe(false)
    expect(book.launches.length).toBeLessThanOrEqual(66)
  })
})

describe('orders', () => {
  test('are forgotten once they are acknowledged, and numbers never come again', () => {
    const done = nextOrder(withOne(), 2, 1)
    expect([done.order, done.book.orders]).toEqual([undefined, []])
    expect(nextOrder(addSignal(done.book, 1, 15), 2, 1).order).toMatchObject({ seq: 2, kind: 'signal', number: 15 })
  })

  test('of other members stay when one acknowledges', () => {
    const two = addLaunch(withOne(), { member: 0, pid: 1011, once: 'b' }, 3, bytes('y')).book
    expect(nextOrder(nextOrder(two, 2, 9).book, 3, 0).order).toMatchObject({ seq: 2 })
  })

  test('a signal for a command that has ended is none', () => {
    expect(nextOrder(addSignal(endLaunch(withOne(), 1, 0), 1, 15), 2, 1).order).toBeUndefined()
  })
})

describe('output', () => {
  test('reaches the agent from where it has read, each byte once', () => {
    const book = addOutput(addOutput(withOne(), 1, 'stdout', 0, bytes('hello ')), 1, 'stdout', 6, bytes('world'))
    const first = news(book, 1, { out: 0, err: 0, max: 32768 })
    expect(text(first.out)).toBe('hello world')
    const second = news(addOutput(first.book, 1, 'stdout', 11, bytes('!')), 1, { out: 11, err: 0, max: 32768 })
    expect([text(second.out), second.book.launches[0]?.stdout.offset]).toEqual(['!', 11])
  })

  test('is told in pieces that the agent can take, and the end comes with the last', () => {
    let book = endLaunch(addOutput(addOutput(withOne(), 1, 'stdout', 0, bytes('abcde')), 1, 'stderr', 0, bytes('xyz')), 1, 7)
    const pieces: unknown[] = []
    for (let out = 0, err = 0, last = false; !last;) {
      const next = news(book, 1, { out, err, max: 4 })
      pieces.push([text(next.out), text(next.err), next.last]);
      [book, last, out, err] = [next.book, next.last, out + next.out.length, err + next.err.length]
    }
    expect(pieces).toEqual([['abcd', '', false], ['e', 'xyz', true]])
  })

  test('that comes again is not taken twice', () => {
    const book = addOutput(addOutput(withOne(), 1, 'stderr', 0, bytes('abc')), 1, 'stderr', 1, bytes('bcd'))
    expect(text(news(book, 1, { out: 0, err: 0, max: 32768 }).err)).toBe('abcd')
  })

  test('beyond a gap is refused', async () => {
    expect(await said(() => addOutput(withOne(), 1, 'stdout', 5, bytes('x')))).toContain('has a gap')
  })

  test('may be any bytes', () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i)
    expect(news(addOutput(withOne(), 1, 'stdout', 0, all), 1, { out: 0, err: 0, max: 32768 }).out).toEqual(all)
  })
})

describe('a member that is lost', () => {
  test('ends its commands as ssh would, and leaves those of others', () => {
    const two = addLaunch(withOne(), { member: 0, pid: 1011, once: 'b' }, 3, bytes('y')).book
    const { book, lost } = loseMember(two, 2)
    expect(lost.map((l) => l.id)).toEqual([1])
    expect(book.launches.map((l) => l.status)).toEqual([lostStatus, null])
    expect(book.orders.map((o) => o.member)).toEqual([3])
  })

  test('does not change what has ended before', () => {
    expect(loseMember(endLaunch(withOne(), 1, 3), 2).book.launches[0]?.status).toBe(3)
  })
})

test('a book travels as it is: every state of it fits the schema of the manifest', () => {
  const book = endLaunch(addSignal(addOutput(withOne(), 1, 'stdout', 0, bytes('x')), 1, 15), 1, 0)
  expect(Value.Check(LaunchBook, JSON.parse(JSON.stringify(book)))).toBe(true)
})
