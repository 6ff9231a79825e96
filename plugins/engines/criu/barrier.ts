import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { descendsFrom } from '../../../daemon/linux/processes.ts'
import { peerCredentials } from '../../../daemon/linux/peer.ts'

function socketPath(directory: string): string {
  return join(directory, 'barrier.sock')
}

async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  rmSync(path, { force: true })
  server.once('error', reject)
  server.listen(path, () => { resolve(undefined) })
  await promise
}

/** The barrier of a dump whose daemon has died: whoever waits there is told to abort at once, until this is disposed of. */
export async function abortAt(directory: string): Promise<AsyncDisposable> {
  const server = createServer((socket) => {
    socket.on('error', () => { socket.destroy() })
    // Its end is seen only by reading; left open, it would keep the sandbox's network namespace alive.
    socket.resume()
    socket.end('abort\n')
  })
  await listen(server, socketPath(directory))
  return { [Symbol.asyncDispose]: async () => { await new Promise((done) => server.close(done)) } }
}

/**
 * The point where a dump waits for the word. Listens for the one client that CRIU's action script starts. A connection
 * that ends without a word is a daemon that has died: the client comes again.
 */
export class Barrier implements AsyncDisposable {
  readonly path: string
  readonly reached: Promise<void>
  readonly #server: Server
  #client: Socket | undefined
  #enginePid: number | undefined

  constructor(directory: string) {
    this.path = socketPath(directory)
    const { promise, resolve } = Promise.withResolvers<undefined>()
    this.reached = promise
    this.#server = createServer((socket) => {
      socket.on('error', () => { socket.destroy() })
      // Only the action script below the engine we started may stand at this barrier.
      if (this.#client !== undefined || this.#enginePid === undefined || !descendsFrom(peerCredentials(socket).pid, this.#enginePid)) {
        socket.destroy()
        return
      }
      this.#client = socket
      let text = ''
      socket.setEncoding('utf8')
      socket.on('data', (chunk: string) => {
        text += chunk
        if (text === 'post-dump\n') resolve(undefined)
        else if (text.length > 64) socket.destroy()
      })
    })
  }

  /** Listens; call before the engine starts. */
  async open(): Promise<void> {
    await listen(this.#server, this.path)
  }

  /** Whose descendants may come. */
  expect(enginePid: number): void {
    this.#enginePid = enginePid
  }

  commit(): void {
    this.#client?.end('commit\n')
  }

  abort(): void {
    this.#client?.end('abort\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.destroy()
    await new Promise((done) => this.#server.close(done))
    rmSync(this.path, { force: true })
  }
}
