import { describe, expect, test } from '@jest/globals'
import { playCheckpoint, playRestore } from './play.ts'
import type { Fault } from './simulation.ts'

/** Schedules that once broke a rule. */

const several: readonly { what: string; keepRunning: boolean; seed?: number; faults: readonly Fault[] }[] = [
  { what: 'the coordinator dies before a checkpoint that all have sealed has its name', keepRunning: true, faults: [{ at: 'n1: store publish', kind: 'die-before' }] },
  { what: 'the coordinator dies right after its engine has started', keepRunning: true, faults: [{ at: 'n1: checkpoints.setEngine', kind: 'die-before' }] },
  { what: 'a member dies right after its engine has started', keepRunning: false, faults: [{ at: 'n2: checkpoints.setEngine', kind: 'die-before' }] },
  { what: 'a member is asked twice to be quiet', keepRunning: true, faults: [{ at: 'n1: quiesce -> n2', kind: 'double' }] },
  { what: 'a member is asked to be quiet when the checkpoint was given up', keepRunning: false, faults: [{ at: 'n1: quiesce -> n2', kind: 'slow' }] },
  { what: 'a member is slow to be quiet, and told to go on meanwhile', keepRunning: false, faults: [{ at: 'n2: shut post', kind: 'slow' }] },
  { what: 'a member is about to dump, and told to go on meanwhile', keepRunning: false, faults: [{ at: 'n2: engine dump', kind: 'slow' }, { at: 'n1: dump -> n2', kind: 'lose-answer' }] },
  { what: 'a gate does not open at the first try when a checkpoint is given up', keepRunning: false, faults: [{ at: 'n2: look frozen', kind: 'fail' }, { at: 'n1: open gate', kind: 'fail' }] },
  { what: 'the coordinator dies when a checkpoint is given up', keepRunning: false, faults: [{ at: 'n2: look frozen', kind: 'fail' }, { at: 'n1: say unhold', kind: 'die-before' }] },
  { what: 'what was written cannot be removed when a checkpoint is given up', keepRunning: false, faults: [{ at: 'n2: look frozen', kind: 'fail' }, { at: 'n3: store drop', kind: 'fail' }] },
  { what: 'the coordinator dies when it goes on from what the last one has left', keepRunning: false, faults: [{ at: 'n1: engine commit', kind: 'die-before' }, { at: 'n1: engine orphan', kind: 'fail' }] },
]

describe('a run of three members that is saved comes through when', () => {
  test.each(several)('$what', async ({ keepRunning, seed = 1, faults }) => {
    expect((await playCheckpoint({ members: 3, keepRunning }, { seed, faults })).violations).toEqual([])
  })

  test('the coordinator dies right after it has ended its payload, for whatever time', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      expect((await playCheckpoint({ members: 3, keepRunning: false }, { seed, faults: [{ at: 'n1: engine commit', kind: 'die-after' }] })).violations).toEqual([])
    }
  })
})

describe('a run of three members that is restored comes through when', () => {
  test.each([1, 2, 3, 4, 5, 6])('a member is asked twice to restore its part (%d)', async (seed) => {
    expect((await playRestore({ members: 3, damaged: false }, { seed, faults: [{ at: 'n1: restore -> n2', kind: 'double' }] })).violations).toEqual([])
  })
})
