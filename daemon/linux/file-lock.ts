import { closeSync, openSync } from 'node:fs'
import koffi from 'koffi'

type Flock = (fd: number, operation: number) => number
let flock: Flock | undefined

function loadFlock(): Flock {
  flock ??= koffi.load('libc.so.6').func('int flock(int, int)') as unknown as Flock
  return flock
}

/** LOCK_EX | LOCK_NB, sys/file.h */
const exclusiveNow = 2 | 4
const EWOULDBLOCK = 11

/**
 * Locks a file that it makes where it is missing (flock(2)). The kernel takes the lock back when its holder ends, however it
 * ends; over NFS the server does.
 * @returns the lock, to be disposed of; `taken` when another holds it; `unsupported` where the file system has no locks
 */
export function tryLock(path: string): Disposable | 'taken' | 'unsupported' {
  const fd = openSync(path, 'a', 0o600)
  if (loadFlock()(fd, exclusiveNow) === 0) return { [Symbol.dispose]: () => { closeSync(fd) } }
  const errno = koffi.errno()
  closeSync(fd)
  return errno === EWOULDBLOCK ? 'taken' : 'unsupported'
}
