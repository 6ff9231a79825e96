import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Budgets } from '../core/budgets.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { encodeLine } from '../core/wire.ts'
import type { HeldProcess } from '../linux/held-process.ts'
import { holdPeer, peerCredentials } from '../linux/peer.ts'
import { listenAt } from '../linux/unix-socket.ts'
import { LetterReader, type Letter } from './letter-reader.ts'

export interface Reply {
  readonly verb: string
  readonly words?: Parameters<typeof encodeLine>[1]
  readonly body?: Uint8Array
}

/** Who has connected. */
export interface Peer {
  readonly uid: number
  readonly held: HeldProcess
}

/** Agents and launchers write for milliseconds; whoever takes longer is cut off. */
const letterSeconds = 5
/** How long a checkpoint waits for open letters: opening a member may take so long. */
const drainSeconds = 15

/**
 * Where the agents and the launcher of one sandbox ask (docs/reference/sandbox-protocol.md, "Post office"): one letter per
 * connection, answered, closed. Shut while the payload is saved: nobody must have a connection to the outside then.
 */
export class PostOffice implements AsyncDisposable {
  readonly #path: string
  readonly #log: Logger
  readonly #pidOf: (peer: Peer) => number
  readonly #answer: (pid: number, letter: Letter) => Promise<Reply | undefined>
  readonly #open = new Set<Socket>()
  readonly #budgets: Budgets
  #listening: AsyncDisposable | undefined

  /**
   * @param pidOf the caller's PID as the sandbox counts; throws when it is no process of the job in this sandbox
   * @param answer undefined closes without a word: the caller asks again
   * @param budgets whoever is over them is closed without a word, too
   */
  constructor(path: string, log: Logger, pidOf: (peer: Peer) => number, answer: (pid: number, letter: Letter) => Promise<Reply | undefined>, budgets: Budgets) {
    this.#budgets = budgets
    this.#path = path
    this.#log = log
    this.#pidOf = pidOf
    this.#answer = answer
  }

  /** Opens it; no error when it is open. */
  async open(): Promise<void> {
    this.#listening ??= await listenAt(this.#makeServer(), this.#path, 0o666)
  }

  #makeServer(): Server {
    return createServer({ allowHalfOpen: true }, (socket) => {
      this.#open.add(socket)
      socket.on('error', () => { socket.destroy() })
      socket.on('close', () => { this.#open.delete(socket) })
      this.#admit(socket)
    })
  }

  #admit(socket: Socket): void {
    let uid = -1 // It has hung up.
    try {
      uid = peerCredentials(socket).uid
      const place = this.#budgets.letters.take(uid)
      if (place === undefined) {
        socket.destroy()
        return
      }
      socket.once('close', () => { place[Symbol.dispose]() })
      if (!this.#budgets.letterRate.take(uid, performance.now())) socket.destroy()
      else this.#serve(socket).catch((error: unknown) => { this.#refuse(socket, uid, error) })
    } catch (error) {
      this.#refuse(socket, uid, error)
    }
  }

  #refuse(socket: Socket, uid: number, error: unknown): void {
    socket.destroy()
    const line = this.#budgets.log.line(uid, performance.now())
    if (line !== undefined) this.#log.info({ err: asStintError(error), uid, ...line }, 'letter refused')
  }

  async #serve(socket: Socket): Promise<void> {
    const pid = this.#senderOf(socket)
    const reply = await this.#answer(pid, await receive(socket))
    if (reply === undefined) socket.destroy()
    else socket.end(encodeReply(reply))
  }

  #senderOf(socket: Socket): number {
    using held = holdPeer(socket)
    return this.#pidOf({ uid: peerCredentials(socket).uid, held })
  }

  /** Takes no more letters and waits until the open ones are answered. No error when it is shut. */
  async shut(): Promise<void> {
    const listening = this.#listening
    if (listening === undefined) return
    this.#listening = undefined
    const closed = listening[Symbol.asyncDispose]()
    const end = Date.now() + drainSeconds * 1000
    while (this.#open.size > 0 && Date.now() < end) await sleep(5)
    for (const socket of this.#open) socket.destroy()
    await closed
    // Who had just connected, or has its answer, sees the end of the connection within this.
    await sleep(10)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open) socket.destroy()
    await this.#listening?.[Symbol.asyncDispose]()
    this.#listening = undefined
  }
}

function encodeReply({ verb, words = {}, body }: Reply): Buffer {
  const line = encodeLine(verb, body === undefined ? words : { ...words, bytes: body.length })
  return Buffer.concat([Buffer.from(line), body ?? Buffer.alloc(0)])
}

/**
 * Reads one letter.
 * @throws StintError E_BAD_REQUEST when it is none, too long, or does not come to its end within `letterSeconds`
 */
async function receive(socket: Socket): Promise<Letter> {
  const timer = setTimeout(() => { socket.destroy() }, letterSeconds * 1000)
  socket.once('close', () => { clearTimeout(timer) })
  const reader = new LetterReader()
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const letter = reader.take(chunk)
    if (letter === undefined) continue
    clearTimeout(timer)
    return letter
  }
  throw new StintError('E_BAD_REQUEST', 'what came is no letter')
}
