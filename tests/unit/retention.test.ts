import { describe, expect, test } from '@jest/globals'
import { makeRoom, superfluous } from '../../daemon/core/retention.ts'

const image = (checkpoint: number, restarts = 0, bytes = 100) => ({ checkpoint, restarts, bytes })
const first = { restarts: 0, restoredFrom: null }

describe('checkpoints that a newer one makes superfluous', () => {
  test('are all but the newest N', () => {
    expect(superfluous([image(4), image(3), image(2), image(1)], 2, first)).toEqual([2, 1])
  })

  test('never include the newest', () => {
    expect(superfluous([image(1)], 1, first)).toEqual([])
    expect(superfluous([], 1, first)).toEqual([])
  })

  test('include those that could not be restored, not the one that was', () => {
    expect(superfluous([image(4, 3), image(3, 2), image(2, 1), image(1, 0)], 2, { restarts: 3, restoredFrom: 2 })).toEqual([3, 1])
  })

  test('do not include what this stint itself has made', () => {
    expect(superfluous([image(6, 3), image(5, 3), image(3, 2), image(2, 1)], 3, { restarts: 3, restoredFrom: 2 })).toEqual([3])
  })
})

describe('room within a quota', () => {
  const quota = (used: number, limit: number) => [{ name: 'x', used, limit }]

  test('is there without a limit, and below it', () => {
    expect(makeRoom(1000, [image(2), image(1)], quota(5000, 0))).toEqual({ remove: [], exceeded: undefined })
    expect(makeRoom(100, [image(2), image(1)], quota(200, 300))).toEqual({ remove: [], exceeded: undefined })
  })

  test('is made by older checkpoints of the same run, oldest first, no more than needed', () => {
    expect(makeRoom(100, [image(3), image(2), image(1)], quota(300, 350)).remove).toEqual([1])
    expect(makeRoom(200, [image(3), image(2), image(1)], quota(300, 300)).remove).toEqual([1, 2])
  })

  test('is refused, and nothing given up, where that does not do: the newest stays', () => {
    expect(makeRoom(201, [image(3), image(2), image(1)], quota(300, 300))).toEqual({ remove: [], exceeded: { name: 'x', used: 300, limit: 300 } })
    expect(makeRoom(1, [image(1)], quota(100, 100)).exceeded?.limit).toBe(100)
  })
})
