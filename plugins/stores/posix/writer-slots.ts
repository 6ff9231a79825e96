import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { tryLock } from '../../../daemon/linux/file-lock.ts'

const directoryName = '.slots'
/** Where nobody counts. */
const free: Disposable = { [Symbol.dispose]: () => undefined }

/**
 * Places of writers, for all nodes: files in the store that a writer holds locked while it writes. A holder that dies, or whose
 * node does, loses its lock to the kernel, over NFS to the server. Without locks in the file system there is no limit.
 * One user has at most half of them, rounded up: a place is held as long as a checkpoint takes, and that is in its owner's hands.
 * @param limit places there are; 0: any number
 * @returns a place to be disposed of, or undefined when all are taken
 */
export function takeSlot(storePath: string, limit: number, uid: number): Disposable | undefined {
  if (limit === 0) return free
  const directory = join(storePath, directoryName)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const own = takeOneOf(Math.ceil(limit / 2), (n) => join(directory, `${uid}-${n}`))
  const place = own === undefined ? undefined : takeOneOf(limit, (n) => join(directory, String(n)))
  if (own === undefined || place === undefined) {
    own?.[Symbol.dispose]()
    return undefined
  }
  return {
    [Symbol.dispose]: () => {
      place[Symbol.dispose]()
      own[Symbol.dispose]()
    },
  }
}

/** The first file that nobody has locked. */
function takeOneOf(count: number, path: (n: number) => string): Disposable | undefined {
  for (let n = 1; n <= count; n++) {
    const lock = tryLock(path(n))
    if (lock === 'unsupported') return free
    if (lock !== 'taken') return lock
  }
  return undefined
}
