import { beforeAll, expect, test } from '@jest/globals'
import { playRestore } from './play.ts'
import { faultKinds } from './simulation.ts'

beforeAll(() => { Error.stackTraceLimit = 0 })

test.each(faultKinds)('a restore keeps the rules when "%s" strikes at any step', async (kind) => {
  const { steps } = await playRestore({ members: 3, damaged: false }, { seed: 1, faults: [] })
  for (let at = 0; at < steps; at++) {
    for (const damaged of [false, true]) {
      const { violations } = await playRestore({ members: 3, damaged }, { seed: at, faults: [{ at, kind }] })
      expect({ at, violations }).toEqual({ at, violations: [] })
    }
  }
}, 600_000)
