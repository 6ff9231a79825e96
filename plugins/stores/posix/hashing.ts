import { Worker } from 'node:worker_threads'
import { StintError } from '../../../daemon/core/errors.ts'
import type { ImageFile } from '../../../daemon/core/manifest.ts'
import type { HashOrder } from './hash-worker.ts'

/** Hashes and flushes every file below a directory. */
export class Hashing {
  readonly #worker: Worker
  readonly #result: Promise<ImageFile[]>

  /** @param key of the image, for MACs; undefined: none are made */
  constructor(directory: string, key?: Uint8Array, sums = true) {
    const workerData: HashOrder = { directory, key, sums }
    this.#worker = new Worker(new URL('hash-worker.ts', import.meta.url), { workerData })
    this.#result = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve)
      this.#worker.once('error', reject)
      this.#worker.once('exit', () => { reject(new StintError('E_STORE_UNUSABLE', 'hashing ended early')) })
    })
    this.#result.catch(() => undefined) // Observed through finish(); a draft that is given up has no reader.
  }

  async finish(): Promise<ImageFile[]> {
    this.#worker.postMessage('finish')
    return this.#result
  }

  async stop(): Promise<void> {
    await this.#worker.terminate()
  }
}
