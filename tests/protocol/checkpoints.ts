import { beforeAll, expect, test } from '@jest/globals'
import { playCheckpoint } from './play.ts'
import { playMany } from './schedules.ts'
import { faultKinds } from './simulation.ts'

/** What must hold of a checkpoint, whichever way it ends. Each way has a file of its own, so that two play at the same time. */
export function testCheckpoints(keepRunning: boolean): void {
  const scenario = { members: 3, keepRunning }

  beforeAll(() => { Error.stackTraceLimit = 0 })

  test.each(faultKinds)('a checkpoint keeps the rules when "%s" strikes at any step', async (kind) => {
    const { steps } = await playCheckpoint(scenario, { seed: 1, faults: [] })
    for (let at = 0; at < steps; at++) {
      const { violations } = await playCheckpoint(scenario, { seed: at, faults: [{ at, kind }] })
      expect({ at, violations }).toEqual({ at, violations: [] })
    }
  }, 600_000)

  test('a checkpoint keeps the rules whatever several faults strike', async () => {
    await playMany(1000, 4, async (schedule) => playCheckpoint(scenario, schedule))
  }, 600_000)
}
