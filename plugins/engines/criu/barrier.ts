import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { descendsFrom } from '../../../daemon/linux/processes.ts'
import { peerCredentials } from '../../../daemon/linux/peer.ts'

/** Where CRIU stops: with all of a dump written, or with all of a payload restored. */
export type BarrierAction = 'post-dump' | 'post-restore'

/**
 * The point where CRIU waits for the word. Listens for the one client that CRIU's action script starts. A client that is
 * left without a word (its daemon died) comes again, to whoever listens at the same path then.
 */
export class Barrier implements AsyncDisposable {
  readonly path: string
  readonly reached: Promise<void>
  readonly #server: Server
  #client: Socket | undefined
  #enginePid: number | undefined

  constructor(directory: string, action: BarrierAction) {
    this.path = join(directory, 'barrier.sock')
    rmSync(this.path, { force: true })
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
        if (text === `${action}\n`) resolve(undefined)
        else if (text.length > 64) socket.destroy()
      })
    })
  }

  /** Listens; call before the engine starts. */
  async open(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    this.#server.once('error', reject)
    this.#server.listen(this.path, () => { resolve(undefined) })
    await promise
  }

  /** Whose descendants may come. */
  expect(enginePid: number): void {
    this.#enginePid = enginePid
  }

  /** Says the word to who stands there; what was said is final. */
  say(word: 'commit' | 'abort'): void {
    this.#client?.end(`${word}\n`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.destroy()
    await new Promise((done) => this.#server.close(done))
    rmSync(this.path, { force: true })
  }
}
