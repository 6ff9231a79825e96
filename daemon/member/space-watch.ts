import { setTimeout as sleep } from 'node:timers/promises'
import { StintError, isStintError } from '../core/errors.ts'
import { bytesBelow } from '../linux/tree-bytes.ts'

/** Between two looks; at least as long as a look takes, of an image with thousands of files. Milliseconds. */
const lookMilliseconds = 100

/** A checkpoint that has grown beyond what there is room for, bytes. */
export function outOfRoom(room: number): StintError {
  return new StintError('E_STORE_QUOTA', `the checkpoint grew beyond the ${Math.floor(room / 1e6)} MB that free space and quotas of the image store leave for it`, {
    hint: 'It was dropped, and the job runs on. Deleted files that are open, /tmp and /dev/shm count; ask your admin for a larger store.quota_gb or store.user_quota_gb.',
  })
}

/** @throws StintError E_STORE_QUOTA when a draft has grown beyond what there is room for */
export async function assertWithinRoom(directory: string, room: number): Promise<void> {
  const bytes = await bytesBelow(directory)
  if (bytes > room) throw outOfRoom(room)
}

/** Watches a draft while it is written. The signal aborts when it has grown too large; disposing ends the watch. */
export class SpaceWatch implements Disposable {
  readonly #over = new AbortController()
  readonly #done = new AbortController()

  constructor(directory: string, room: number) {
    if (room !== Infinity) void this.#watch(directory, room)
  }

  get signal(): AbortSignal {
    return this.#over.signal
  }

  async #watch(directory: string, room: number): Promise<void> {
    while (!this.#done.signal.aborted) {
      const started = performance.now()
      try {
        await assertWithinRoom(directory, room)
      } catch (error) {
        // @NOTE A draft that cannot be looked at is being dropped, or its store is away: who writes to it finds out.
        if (isStintError(error)) this.#over.abort(error)
        return
      }
      await sleep(Math.max(lookMilliseconds, performance.now() - started), undefined, { ref: false, signal: this.#done.signal }).catch(() => undefined)
    }
  }

  [Symbol.dispose](): void {
    this.#done.abort()
  }
}
