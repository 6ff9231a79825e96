import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import type { Server } from 'node:net'
import { dirname } from 'node:path'
import { StintError, systemCode } from '../core/errors.ts'

/**
 * Clears the way for a Unix socket: its directory is made, a socket left by a crash is removed, anything else is not ours.
 * @throws StintError E_BAD_CONFIG when something else lies at the path
 */
export function clearSocketPath(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  try {
    if (!lstatSync(path).isSocket()) throw new StintError('E_BAD_CONFIG', `${path} exists and is no socket`)
    rmSync(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
}

/** Listens with exactly this mode: the umask is tight before the socket exists, widened after. */
export async function listenAt(server: Server, path: string, mode: number): Promise<AsyncDisposable> {
  clearSocketPath(path)
  const umask = process.umask(0o177)
  try {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    server.once('error', reject)
    server.listen(path, () => { resolve(undefined) })
    await promise
  } finally {
    process.umask(umask)
  }
  chmodSync(path, mode)
  return { [Symbol.asyncDispose]: () => new Promise((done) => server.close(() => { done() })) }
}
