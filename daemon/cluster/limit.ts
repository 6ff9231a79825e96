/** Ends when one of `signals` does, or after `seconds` with the reason that `late` makes; disposed of, it never ends. */
export class Limit implements Disposable {
  readonly signal: AbortSignal
  readonly #timer: NodeJS.Timeout

  constructor(seconds: number, late: () => Error, signals: readonly AbortSignal[]) {
    const time = new AbortController()
    this.#timer = setTimeout(() => { time.abort(late()) }, seconds * 1000)
    this.signal = AbortSignal.any([time.signal, ...signals])
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
  }
}

/** What `work` comes to, or a rejection with the signal's reason as soon as that is aborted; the work goes on by itself. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => { reject(signal.reason as Error) }
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
