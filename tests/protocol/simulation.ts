/**
 * Virtual time, chance and faults. Everything a daemon asks of the world is a step: steps take their time by the seed, and a fault
 * strikes at a step by its number. So a schedule (seed and faults) is always played the same.
 */

/** What may go wrong at a step; where it cannot (a read-only question cannot be lost in the network) nothing does. */
export const faultKinds = ['die-before', 'die-after', 'fail', 'fail-after', 'lose', 'lose-answer', 'double', 'slow'] as const
export type FaultKind = (typeof faultKinds)[number]

export interface Fault {
  /** Number of the step, from 0; or its name, for the first one that has it. */
  readonly at: number | string
  readonly kind: FaultKind
}

export interface Schedule {
  readonly seed: number
  readonly faults: readonly Fault[]
}

/** Settles never: what a dead daemon waits for. */
export const never: Promise<never> = new Promise(() => undefined)

/** Mulberry32: small, and good enough to draw delays. */
function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Due {
  readonly at: number
  readonly order: number
  readonly act: () => void
  isOff: boolean
}

/** Between two questions whether all is done, milliseconds. */
const askMs = 250

/** After every promise that is settled has had its say. */
function settled(): Promise<void> {
  return new Promise((resolve) => { process.nextTick(resolve) })
}

export class Simulation {
  /** Milliseconds since 1970. */
  now = 1_700_000_000_000
  /** Steps so far. */
  steps = 0
  /** What was seen that must never be. */
  readonly violations: string[] = []
  readonly trace: string[] = []
  readonly isTraced: boolean
  readonly random: () => number
  readonly #faults: Map<number | string, FaultKind>
  readonly #queue: Due[] = []
  #order = 0
  #hasBegun = false

  constructor({ seed, faults }: Schedule, isTraced = false) {
    this.random = randomOf(seed)
    this.#faults = new Map(faults.map(({ at, kind }) => [at, kind]))
    this.isTraced = isTraced
  }

  note(text: string): void {
    if (this.isTraced) this.trace.push(`${(this.now - 1_700_000_000_000).toFixed(0).padStart(7)} ${text}`)
  }

  /** Breaks a rule: the schedule has failed. */
  violate(text: string): void {
    this.note(`!!! ${text}`)
    this.violations.push(text)
  }

  /** Until here nothing was struck: steps count from now on. */
  begin(): void {
    this.steps = 0
    this.#hasBegun = true
  }

  /** Counts a step. @returns the fault that strikes at it */
  step(what: string): FaultKind | undefined {
    const fault = this.#hasBegun ? this.#faultAt(what) : undefined
    if (this.isTraced) this.note(`#${this.steps} ${what}${fault === undefined ? '' : ` <-- ${fault}`}`)
    this.steps++
    return fault
  }

  #faultAt(what: string): FaultKind | undefined {
    const named = this.#faults.get(what)
    this.#faults.delete(what)
    return named ?? this.#faults.get(this.steps)
  }

  /** @param most milliseconds */
  delay(most: number): Promise<void> {
    return new Promise((resolve) => { this.after(this.random() * most, resolve) })
  }

  after(milliseconds: number, act: () => void): Disposable {
    const due: Due = { at: this.now + Math.max(0, milliseconds), order: this.#order++, act, isOff: false }
    this.#push(due)
    return { [Symbol.dispose]: () => { due.isOff = true } }
  }

  /** Plays on until nothing is left to do, or `isDone`, which is asked every now and then. @param limit milliseconds */
  async run(limit: number, isDone: () => boolean): Promise<void> {
    const end = this.now + limit
    let askAt = this.now + askMs
    await settled()
    for (let due = this.#pop(); due !== undefined; due = this.#pop()) {
      if (due.isOff) continue
      if (due.at > askAt) {
        askAt = due.at + askMs
        if (isDone()) {
          this.#push(due)
          return
        }
      }
      if (due.at > end) {
        this.#push(due)
        this.now = end
        return
      }
      this.now = Math.max(this.now, due.at)
      due.act()
      await settled()
    }
  }

  #push(due: Due): void {
    const queue = this.#queue
    let at = queue.push(due) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = queue[parent]
      if (above === undefined || isBefore(above, due)) break
      queue[at] = above
      at = parent
    }
    queue[at] = due
  }

  #pop(): Due | undefined {
    const queue = this.#queue
    const [first, last] = [queue[0], queue.pop()]
    if (last === undefined || queue.length === 0) return first
    let at = 0
    for (;;) {
      const [left, right] = [queue[2 * at + 1], queue[2 * at + 2]]
      const next = right !== undefined && left !== undefined && isBefore(right, left) ? 2 * at + 2 : 2 * at + 1
      const below = queue[next]
      if (below === undefined || isBefore(last, below)) break
      queue[at] = below
      at = next
    }
    queue[at] = last
    return first
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
