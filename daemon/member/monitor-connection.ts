import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { StintError } from '../core/errors.ts'
import { LineReader } from '../core/line-reader.ts'
import { decodeLine, encodeLine, type Message } from '../core/wire.ts'
import type { HeldProcess } from '../linux/held-process.ts'
import { holdPeer, peerCredentials, type PeerCredentials } from '../linux/peer.ts'

/** One guard's (or task process's) connection: lines out, lines in, and waiting for a certain line. */
export class GuardLink {
  readonly peer: PeerCredentials
  /** Lines nobody waits for. */
  onMessage: ((message: Message) => void) | undefined
  onClose: (() => void) | undefined
  readonly #socket: Socket
  readonly #log: Logger
  readonly #waiting = new Map<string, (message: Message | undefined) => void>()
  readonly #lines = new LineReader()
  #process: HeldProcess | undefined

  constructor(socket: Socket, log: Logger) {
    this.#socket = socket
    this.#log = log
    this.peer = peerCredentials(socket)
    socket.on('data', (chunk: Buffer) => { this.#take(chunk) })
    socket.on('error', (error) => { log.debug({ err: error }, 'guard connection') })
    socket.on('close', () => {
      for (const resolve of this.#waiting.values()) resolve(undefined)
      this.#waiting.clear()
      this.#process?.[Symbol.dispose]()
      this.onClose?.()
    })
  }

  /** Who connected; held as long as the connection. @throws StintError E_NOT_VERIFIED when it has ended */
  get process(): HeldProcess {
    return this.#process ??= holdPeer(this.#socket)
  }

  get open(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  /** Whoever writes overlong lines does not speak the protocol. */
  #take(chunk: Buffer): void {
    for (const { text } of this.#lines.lines(chunk)) this.#hear(text)
    if (!this.#lines.isOverlong) return
    this.#log.warn({ peer: this.peer }, 'line too long')
    this.#socket.destroy()
  }

  #hear(line: string): void {
    const message = decodeLine(line)
    if (message === undefined) return
    this.#log.debug({ line, pid: this.peer.pid }, 'from guard')
    const waiter = this.#waiting.get(message.verb)
    this.#waiting.delete(message.verb)
    if (waiter === undefined) this.onMessage?.(message)
    else waiter(message)
  }

  send(verb: string, words: Parameters<typeof encodeLine>[1] = {}): void {
    if (this.open) this.#socket.write(encodeLine(verb, words))
  }

  /**
   * Waits for one line.
   * @throws StintError E_NOT_RUNNING when the connection ends or `seconds` pass first
   */
  async expect(verb: string, seconds: number): Promise<Message> {
    const { promise, resolve } = Promise.withResolvers<Message | undefined>()
    this.#waiting.set(verb, resolve)
    // A daemon that was busy itself comes to its timers first: what has arrived meanwhile is read before anybody is blamed.
    const timer = setTimeout(() => { setImmediate(() => { resolve(undefined) }) }, seconds * 1000)
    const message = await promise
    clearTimeout(timer)
    if (message === undefined) {
      this.#waiting.delete(verb)
      throw new StintError('E_NOT_RUNNING', this.open ? `the sandbox did not say "${verb}" within ${seconds} s` : `the sandbox ended before it said "${verb}"`)
    }
    return message
  }

  close(): void {
    this.#socket.destroy()
  }
}
