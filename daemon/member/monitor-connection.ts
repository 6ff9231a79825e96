import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { StintError } from '../core/errors.ts'
import { decodeLine, encodeLine, maxLineBytes, type Message } from '../core/wire.ts'
import { peerCredentials, type PeerCredentials } from '../linux/peer.ts'

/** One guard's (or task process's) connection: lines out, lines in, and waiting for a certain line. */
export class GuardLink {
  readonly peer: PeerCredentials
  /** Lines nobody waits for. */
  onMessage: ((message: Message) => void) | undefined
  onClose: (() => void) | undefined
  readonly #socket: Socket
  readonly #log: Logger
  readonly #waiting = new Map<string, (message: Message | undefined) => void>()
  #text = ''

  constructor(socket: Socket, log: Logger) {
    this.#socket = socket
    this.#log = log
    this.peer = peerCredentials(socket)
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => { this.#take(chunk) })
    socket.on('error', (error) => { log.debug({ err: error }, 'guard connection') })
    socket.on('close', () => {
      for (const resolve of this.#waiting.values()) resolve(undefined)
      this.#waiting.clear()
      this.onClose?.()
    })
  }

  get open(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  #take(chunk: string): void {
    this.#text += chunk
    for (let at = this.#text.indexOf('\n'); at >= 0; at = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, at)
      this.#text = this.#text.slice(at + 1)
      if (Buffer.byteLength(line) >= maxLineBytes) {
        this.#refuse()
        return
      }
      const message = decodeLine(line)
      if (message === undefined) continue
      this.#log.debug({ line, pid: this.peer.pid }, 'from guard')
      const waiter = this.#waiting.get(message.verb)
      this.#waiting.delete(message.verb)
      if (waiter === undefined) this.onMessage?.(message)
      else waiter(message)
    }
    if (Buffer.byteLength(this.#text) >= maxLineBytes) this.#refuse()
  }

  /** Whoever writes overlong lines does not speak the protocol. */
  #refuse(): void {
    this.#log.warn({ peer: this.peer }, 'line too long')
    this.#text = ''
    this.#socket.destroy()
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
