import { StintError } from './errors.ts'

/**
 * What one user may ask of this daemon. Values and clocks come in: nothing here waits, so whoever is over a budget is told at
 * once, and nobody else stands behind them. Root is exempt: it can stop the daemon anyway, and must get through when users do not.
 */

/** Users whose counts are kept before those with nothing on record are forgotten. */
const forgetAbove = 1000

/** So many at once for each user. */
export class Places {
  readonly #most: number
  readonly #taken = new Map<number, number>()

  constructor(most: number) {
    this.#most = most
  }

  /** A place until it is disposed of, which may be done more than once; undefined when all of this user's are taken. */
  take(uid: number): Disposable | undefined {
    const taken = this.#taken.get(uid) ?? 0
    if (uid !== 0 && taken >= this.#most) return undefined
    this.#taken.set(uid, taken + 1)
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (!held) return
        held = false
        const left = (this.#taken.get(uid) ?? 1) - 1
        if (left === 0) this.#taken.delete(uid)
        else this.#taken.set(uid, left)
      },
    }
  }

  taken(uid: number): number {
    return this.#taken.get(uid) ?? 0
  }
}

/**
 * So much in a time for each user, and more after a while of rest (a token bucket). What costs more than is left is let through
 * once and paid for afterwards: a single large thing is never refused for ever.
 */
export class Rate {
  readonly #perMillisecond: number
  readonly #burst: number
  readonly #left = new Map<number, { readonly tokens: number; readonly at: number }>()

  /** @param burst what a user who has rested may take at once */
  constructor(perSecond: number, burst: number) {
    this.#perMillisecond = perSecond / 1000
    this.#burst = burst
  }

  #tokens(uid: number, now: number): number {
    const known = this.#left.get(uid)
    // A clock that was set back gives nothing, and takes nothing.
    return known === undefined ? this.#burst : Math.min(this.#burst, known.tokens + Math.max(0, now - known.at) * this.#perMillisecond)
  }

  /** Takes `cost` if something is left: a whole one. @param now milliseconds of any steady clock */
  take(uid: number, now: number, cost = 1): boolean {
    if (uid === 0) return true
    const tokens = this.#tokens(uid, now)
    if (tokens < Math.min(1, cost, this.#burst)) return false
    if (this.#left.size > forgetAbove) this.#forget(now)
    this.#left.set(uid, { tokens: tokens - cost, at: now })
    return true
  }

  /** Takes `cost` whatever is left, for what was used already; the debt grows to one burst at most. */
  charge(uid: number, now: number, cost: number): void {
    if (uid !== 0) this.#left.set(uid, { tokens: Math.max(-this.#burst, this.#tokens(uid, now) - cost), at: now })
  }

  /** Seconds until something is left, rounded up. */
  secondsUntil(uid: number, now: number): number {
    const tokens = this.#tokens(uid, now)
    return Math.ceil(Math.max(0, Math.min(1, this.#burst) - tokens) / this.#perMillisecond / 1000)
  }

  /** Those who have all they may have are as if they had never come. */
  #forget(now: number): void {
    for (const uid of this.#left.keys()) if (this.#tokens(uid, now) >= this.#burst) this.#left.delete(uid)
  }
}

/** Lines in the log for each user; of those that are left out the number is told with the next. */
export class LogBudget {
  readonly #rate: Rate
  readonly #suppressed = new Map<number, number>()

  constructor(perMinute: number) {
    this.#rate = new Rate(perMinute / 60, perMinute)
  }

  /** What to add to the line, or undefined when it is to be left out. */
  line(uid: number, now: number): { readonly suppressed?: number } | undefined {
    const suppressed = this.#suppressed.get(uid)
    if (!this.#rate.take(uid, now)) {
      this.#suppressed.set(uid, (suppressed ?? 0) + 1)
      return undefined
    }
    this.#suppressed.delete(uid)
    return suppressed === undefined ? {} : { suppressed }
  }
}

/** The site's limits for one user on one node: [limits] of the configuration. */
export interface Limits {
  readonly connections_per_user: number
  readonly requests_per_user: number
  readonly requests_per_second: number
  readonly checkpoints_per_hour: number
  readonly letters_per_user: number
  readonly letters_per_second: number
  readonly launch_mb_per_second: number
  readonly log_lines_per_minute: number
}

/** Requests that a user who has rested may send at once, in seconds of their rate. */
const requestBurstSeconds = 10
const letterBurstSeconds = 2
/** Connections over the budget that are still told so, for each user; beyond them a connection is closed without a word. */
const refusalsAtOnce = 8

export class Budgets {
  /** Connections to the REST socket, requests whose handlers run, connections to the post offices. */
  readonly connections: Places
  readonly refusals: Places
  readonly requests: Places
  readonly letters: Places
  readonly requestRate: Rate
  readonly letterRate: Rate
  /** Bytes of launch books that letters make this daemon write. */
  readonly launchBytes: Rate
  readonly checkpoints: Rate
  readonly log: LogBudget

  constructor(limits: Limits) {
    this.connections = new Places(limits.connections_per_user)
    this.refusals = new Places(refusalsAtOnce)
    this.requests = new Places(limits.requests_per_user)
    this.letters = new Places(limits.letters_per_user)
    this.requestRate = new Rate(limits.requests_per_second, limits.requests_per_second * requestBurstSeconds)
    this.letterRate = new Rate(limits.letters_per_second, limits.letters_per_second * letterBurstSeconds)
    this.launchBytes = new Rate(limits.launch_mb_per_second * 1e6, limits.launch_mb_per_second * 1e6 * letterBurstSeconds)
    this.checkpoints = new Rate(limits.checkpoints_per_hour / 3600, limits.checkpoints_per_hour)
    this.log = new LogBudget(limits.log_lines_per_minute)
  }
}

/** One more connection to the REST socket than a user may have. */
export function tooManyConnections(limits: Limits): StintError {
  return new StintError('E_OVER_BUDGET', `you have ${limits.connections_per_user} connections to stintd on this node already (limits.connections_per_user); nothing was done`)
}

/** A user asks too often. */
export function tooManyRequests(budgets: Budgets, limits: Limits, uid: number, now: number): StintError {
  return new StintError('E_OVER_BUDGET', `you ask stintd on this node more often than ${limits.requests_per_second} times a second (limits.requests_per_second); nothing was done`, {
    hint: `Ask again in ${budgets.requestRate.secondsUntil(uid, now)} s, and less often: one \`stint status\` without a job id lists all your jobs.`,
  })
}

/** Works on a request while its user has a place for it. @throws StintError E_OVER_BUDGET when there is none */
export async function withRequestPlace<T>(budgets: Budgets, limits: Limits, uid: number, work: () => Promise<T>): Promise<T> {
  const place = budgets.requests.take(uid)
  if (place !== undefined) {
    try {
      return await work()
    } finally {
      place[Symbol.dispose]()
    }
  }
  throw new StintError('E_OVER_BUDGET', `${limits.requests_per_user} requests of yours are under way on this node already (limits.requests_per_user); nothing was done`)
}

/** @throws StintError E_OVER_BUDGET when the user has had all the checkpoints on request that an hour has */
export function assertCheckpointsLeft(budgets: Budgets, limits: Limits, uid: number, now: number): void {
  if (budgets.checkpoints.take(uid, now)) return
  throw new StintError('E_OVER_BUDGET', `you have asked for ${limits.checkpoints_per_hour} checkpoints on this node within an hour (limits.checkpoints_per_hour); the job runs on as it is, and is still saved before its walltime`, {
    hint: `Ask again in ${budgets.checkpoints.secondsUntil(uid, now)} s, or let Stint save the job by itself: --stint=every=10m.`,
  })
}
