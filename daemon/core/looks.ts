import { StintError } from './errors.ts'
import type { Objects } from './deadline.ts'
import type { Obstacle } from './obstacles.ts'
import type { ReadFile } from './read-files.ts'
import type { RehearsalView } from './rehearsal.ts'
import type { SaveStep } from './rollback.ts'

/**
 * Looks at a payload: everything that is read of it in /proc and in its files. How much there is to read is the user's choice, so a look
 * is made by a helper process (member/look-helper.ts), and what comes back is no larger than its budget.
 */

/** What the daemon knows and a helper cannot find out. */
export interface LookFacts {
  readonly preflight: { readonly guardStopped: boolean }
  readonly frozen: null
  readonly trees: null
  readonly rehearsal: { readonly imageBytes: number }
}

/** What each kind of look finds. */
export interface LookAnswers {
  /** Before anything is frozen. `bytes`: a checkpoint's; `cloned`: read for checksums only. */
  readonly preflight: {
    readonly obstacles: readonly Obstacle[]
    readonly carried: readonly string[]
    readonly processes: number
    readonly bytes: number
    readonly cloned: number
    readonly objects: Objects
    /** The payload would notice that files are opened. */
    readonly noticing: boolean
  }
  /** While the payload is frozen and its memory written. */
  readonly frozen: {
    /** A process that left the payload's tree meanwhile. */
    readonly lost: { readonly pid: number; readonly comm: string } | undefined
    readonly obstacles: readonly Obstacle[]
    readonly notes: readonly string[]
    readonly carried: readonly string[]
    readonly watchesTrees: boolean
    /** The payload's living processes, as the sandbox counts. */
    readonly living: readonly number[]
    readonly readFiles: readonly ReadFile[]
    readonly plan: readonly SaveStep[]
    /** No copies counted yet. */
    readonly objects: Objects
    /** Names in the private trees from `/`, each with a zero byte behind it. */
    readonly entries: Uint8Array
  }
  /** What of the private trees could not be put back: all of them, which may take as long as packing them. */
  readonly trees: readonly Obstacle[]
  readonly rehearsal: { readonly reason: string | undefined; readonly view: RehearsalView }
}

export type LookKind = keyof LookAnswers

function tooMany(message: string): StintError {
  const remedy = 'Close what the job does not need, or run it in several jobs; an admin can raise checkpoint.look_limit and checkpoint.look_seconds.'
  const obstacle: Obstacle = { kind: 'too-many', message, remedy }
  return new StintError('E_PREFLIGHT', message, { hint: remedy, details: { obstacles: [obstacle] } })
}

/** A look that did not come to its end. @param limit seconds; undefined: the helper ran out of memory or was ended */
export function unfinishedLook(limit: number | undefined): StintError {
  return tooMany(`the job has too many processes, open files and mappings to look at${limit === undefined ? '' : ` within ${limit} s`}`)
}

/** How much a look may take in. What is beyond it is not looked at, so the job is not saved: something could be lost in silence. */
export class LookBudget {
  readonly #limit: number
  #left: number

  constructor(limit = Infinity) {
    this.#limit = limit
    this.#left = limit
  }

  /** What must come at least. @throws StintError E_PREFLIGHT beyond the limit */
  foresee(objects: number): void {
    if (objects > this.#left) this.take(objects)
  }

  /** @param objects processes, threads, descriptors, mapped files @throws StintError E_PREFLIGHT beyond the limit */
  take(objects: number): void {
    this.#left -= objects
    if (this.#left < 0) throw tooMany(`the job has more than ${this.#limit} processes, threads, open files and mappings, too many to look at`)
  }
}

/** Of each kind of obstacle so many are told; the others are only more of the same. */
const mostOfAKind = 100

export function fewOfEachKind(obstacles: readonly Obstacle[]): Obstacle[] {
  const counts = new Map<string, number>()
  return obstacles.filter(({ kind }) => {
    const count = (counts.get(kind) ?? 0) + 1
    counts.set(kind, count)
    return count <= mostOfAKind
  })
}
