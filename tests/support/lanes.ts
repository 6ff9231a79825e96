import { beforeAll, test } from '@jest/globals'

/**
 * Tests of one file that run at the same time, one on each lane (mostly a node that is theirs alone): what they do is waiting.
 * All of them begin with the file, whichever jest was asked for.
 * @returns what stands in the place of jest's `test`; its body gets the lane
 */
export function testOnLanes(lanes: readonly string[]): (name: string, body: (lane: string) => Promise<void>, timeout: number) => void {
  const waiting: ((lane: string) => Promise<void>)[] = []
  beforeAll(() => {
    for (const lane of lanes) {
      void (async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next(lane)
      })()
    }
  })
  return (name, body, timeout) => {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    promise.catch(() => undefined) // Seen by its test.
    waiting.push(async (lane) => body(lane).then(() => { resolve(undefined) }, reject))
    test(name, async () => promise, timeout)
  }
}
