import type { CheckpointFacts } from './checkpoint-state.ts'

/**
 * A daemon has died in the middle of a checkpoint, and the next one finds it open in the catalogue. The engine outlives the daemon and
 * waits at its barrier for a word; what comes then goes by that word and by whether the kernel still has the payload.
 */

/** What the engine at its barrier is told. */
export type Word = 'commit' | 'abort'

/** The coordinator's own: what is not on record was never decided (presumed abort). Another member asks its coordinator. */
export function wordOnRecord({ decision }: Pick<CheckpointFacts, 'decision'>): Word {
  return decision === 'commit' ? 'commit' : 'abort'
}

/**
 * - `saved`: the run lives in the image alone, and goes on to its requeue.
 * - `given-up`: the image is dropped on all members and their gates open. A payload that lives runs on; of one that does not the
 *   monitor tells the end.
 */
export type AfterCrash = 'saved' | 'given-up'

export interface CrashFacts {
  readonly word: Word
  readonly keepRunning: boolean
  /** The kernel's word, once the engine has had its own. */
  readonly payloadLives: boolean
}

/** What becomes of a checkpoint that was cut short. */
export function afterCrash({ word, keepRunning, payloadLives }: CrashFacts): AfterCrash {
  // Only a commit that was to end it has ended it: every other payload that is gone has ended by itself, or was ended.
  return word === 'commit' && !keepRunning && !payloadLives ? 'saved' : 'given-up'
}
