import { setTimeout as sleep } from 'node:timers/promises'

/** Waiting. What waits never keeps the daemon from ending. A simulation has a clock of its own (tests/protocol). */
export interface Clock {
  /** @param signal ends it early @throws the signal's reason, wrapped as Node.js does (`AbortError`) */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>
  /** Calls back once; not any more when it was disposed of. */
  after(milliseconds: number, act: () => void): Disposable
  /** Aborts after so long. */
  timeout(milliseconds: number): AbortSignal
}

export const systemClock: Clock = {
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) }),
  after: (milliseconds, act) => setTimeout(act, milliseconds).unref(),
  timeout: (milliseconds) => AbortSignal.timeout(milliseconds),
}
