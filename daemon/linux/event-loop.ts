import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How late the event loop is, milliseconds: over the last minute or so, and the most since the start. */
export interface LoopDelay {
  readonly p50: number
  readonly p99: number
  readonly max: number
  readonly maxSinceStart: number
}

/** Resolution of the measurement, which is not part of the delay; milliseconds. */
const resolution = 10
const windowMilliseconds = 60_000

/** Measures how long whatever is due waits for its turn: everything that answers in time depends on it. */
export class EventLoopMonitor implements Disposable {
  readonly #histogram = monitorEventLoopDelay({ resolution })
  readonly #timer: NodeJS.Timeout
  #before: Omit<LoopDelay, 'maxSinceStart'> | undefined
  #most = 0

  constructor() {
    this.#histogram.enable()
    this.#timer = setInterval(() => {
      this.#before = this.#now()
      this.#most = Math.max(this.#most, this.#before.max)
      this.#histogram.reset()
    }, windowMilliseconds).unref()
  }

  #now(): Omit<LoopDelay, 'maxSinceStart'> {
    const milliseconds = (nanoseconds: number): number => Math.max(0, Math.round((nanoseconds / 1e6 - resolution) * 10) / 10)
    const { count } = this.#histogram
    return count === 0 ? { p50: 0, p99: 0, max: 0 } : { p50: milliseconds(this.#histogram.percentile(50)), p99: milliseconds(this.#histogram.percentile(99)), max: milliseconds(this.#histogram.max) }
  }

  /** The worse of this minute and the last one. */
  read(): LoopDelay {
    const [now, before] = [this.#now(), this.#before]
    const worse = (key: 'p50' | 'p99' | 'max'): number => Math.max(now[key], before?.[key] ?? 0)
    return { p50: worse('p50'), p99: worse('p99'), max: worse('max'), maxSinceStart: Math.max(this.#most, now.max) }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#histogram.disable()
  }
}
