import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { descendsFrom } from '../../../daemon/linux/processes.ts'
import type { HeldProcess } from '../../../daemon/linux/held-process.ts'
import { holdPeer, peerCredentials } from '../../../daemon/linux/peer.ts'

/**
 * Where CRIU stops. `post-dump`: all is written. `post-restore`: every task and descriptor is there, with CRIU's own identity.
 * `pre-resume`: the tasks have theirs, and the next thing they do is their program.
 */
export type BarrierAction = 'post-dump' | 'post-restore' | 'pre-resume'

/**
 * The points where CRIU waits for the word. Listens for one client at a time: CRIU's action script, or CRIU itself. A client
 * that is left without a word (its daemon died) comes again, to whoever listens at the same path then.
 */
export class Barrier implements AsyncDisposable {
  readonly path: string
  readonly #reached: ReadonlyMap<string, PromiseWithResolvers<undefined>>
  readonly #server: Server
  #client: Socket | undefined
  #engine: HeldProcess | undefined
  #users: readonly number[] = []

  /** @param actions in the order in which they are come to */
  constructor(directory: string, actions: readonly BarrierAction[]) {
    this.path = join(directory, 'barrier.sock')
    rmSync(this.path, { force: true })
    this.#reached = new Map(actions.map((action) => [`${action}\n`, Promise.withResolvers<undefined>()]))
    this.#server = createServer((socket) => {
      socket.on('error', () => { socket.destroy() })
      // Only what is below the engine we started may stand at this barrier.
      if (this.#client !== undefined || !this.#isExpected(socket)) {
        socket.destroy()
        return
      }
      this.#client = socket
      let text = ''
      socket.setEncoding('utf8')
      socket.on('data', (chunk: string) => {
        text += chunk
        const reached = this.#reached.get(text)
        if (reached !== undefined) reached.resolve(undefined)
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

  /** Whose descendants may come, and as whom. The engine is let go with the barrier. */
  expect(engine: HeldProcess, users: readonly number[]): void {
    this.#engine = engine
    this.#users = users
  }

  #isExpected(socket: Socket): boolean {
    try {
      if (this.#engine === undefined || !this.#users.includes(peerCredentials(socket).uid)) return false
      using peer = holdPeer(socket)
      return descendsFrom(peer.pid, this.#engine.pid) && peer.isAlive && this.#engine.isAlive
    } catch {
      return false // It has ended.
    }
  }

  /** Settles when it is come to. */
  async reached(action: BarrierAction): Promise<void> {
    await this.#reached.get(`${action}\n`)?.promise
  }

  /** Says the word to who stands there; what was said is final. The next may come then. */
  say(word: 'commit' | 'abort'): void {
    this.#client?.end(`${word}\n`)
    this.#client = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.destroy()
    this.#engine?.[Symbol.dispose]()
    this.#engine = undefined
    await new Promise((done) => this.#server.close(done))
    rmSync(this.path, { force: true })
  }
}
