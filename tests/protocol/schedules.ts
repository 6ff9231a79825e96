import { expect } from '@jest/globals'
import fc from 'fast-check'
import { faultKinds, type Schedule } from './simulation.ts'
import type { Played } from './play.ts'

/** Steps of a checkpoint of three members, and some of what comes after it. */
const steps = 180

/** A number from the environment, for a longer run or the same one again. */
function given(name: string): number | undefined {
  const text = process.env[name]
  return text === undefined ? undefined : Number(text)
}

/** Up to `most` faults anywhere. */
function schedules(most: number): fc.Arbitrary<Schedule> {
  const fault = fc.record({ at: fc.nat({ max: steps }), kind: fc.constantFrom(...faultKinds) })
  return fc.record({ seed: fc.nat(), faults: fc.array(fault, { maxLength: most }) })
}

/**
 * Plays schedules at random. A failure prints its seed, and the shortest list of faults that still breaks a rule:
 * STINT_PROTOCOL_SEED plays the same again, STINT_PROTOCOL_SCHEDULES more of them.
 */
export async function playMany(count: number, most: number, play: (schedule: Schedule) => Promise<Played>): Promise<void> {
  const seed = given('STINT_PROTOCOL_SEED')
  const property = fc.asyncProperty(schedules(most), async (schedule) => {
    const { violations } = await play(schedule)
    expect(violations).toEqual([])
  })
  await fc.assert(property, { numRuns: given('STINT_PROTOCOL_SCHEDULES') ?? count, ...(seed === undefined ? {} : { seed }) })
}
