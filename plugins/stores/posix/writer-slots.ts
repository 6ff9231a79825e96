import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { tryLock } from '../../../daemon/linux/file-lock.ts'

const directoryName = '.slots'

/**
 * Places of writers, for all nodes: files in the store that a writer holds locked while it writes. A holder that dies, or whose
 * node does, loses its lock to the kernel, over NFS to the server. Without locks in the file system there is no limit.
 * @param limit places there are; 0: any number
 * @returns a place to be disposed of, or undefined when all are taken
 */
export function takeSlot(storePath: string, limit: number): Disposable | undefined {
  const free = { [Symbol.dispose]: () => undefined }
  if (limit === 0) return free
  mkdirSync(join(storePath, directoryName), { recursive: true, mode: 0o700 })
  for (let n = 1; n <= limit; n++) {
    const lock = tryLock(join(storePath, directoryName, String(n)))
    if (lock === 'unsupported') return free
    if (lock !== 'taken') return lock
  }
  return undefined
}
