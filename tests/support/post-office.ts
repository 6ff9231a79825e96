import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { decodeLine, encodeLine, word, type Message } from '../../daemon/core/wire.ts'

export interface PostRequest extends Message {
  readonly body: Buffer
}

interface Posted { out: Buffer; err: Buffer; status: number | undefined }

/** What a launched command is made of, as the strings of a body. */
export function commandBody(command: string, directory: string, environment: readonly string[]): Buffer {
  return Buffer.from([command, directory, ...environment].map((text) => `${text}\0`).join(''))
}

const number = (message: Message, key: string): number => Number(word(message, key) ?? 0)

/**
 * A stand-in for the daemon's post office (docs/reference/sandbox-protocol.md). Orders to a launcher and news for agents are
 * put in by the test; `fault` may treat a request in its own way.
 */
export class PostOffice implements AsyncDisposable {
  readonly path: string
  readonly heard: PostRequest[] = []
  readonly commands = new Map<number, Posted>()
  /** Answers to a launch, by its `once`; taken from `willLaunch` in turn. */
  readonly launched = new Map<string, number>()
  refusal: string | undefined
  /** True when it has dealt with the request itself. */
  fault: ((request: PostRequest, socket: Socket) => boolean) | undefined
  readonly connections = new Set<Socket>()
  readonly #orders: Buffer[] = []
  #server: Server | undefined

  constructor(path: string) {
    this.path = path
  }

  async open(): Promise<void> {
    const server = createServer((socket) => { this.#take(socket) })
    this.#server = server
    rmSync(this.path, { force: true })
    await new Promise<void>((done) => server.listen(this.path, done))
  }

  async close(): Promise<void> {
    for (const socket of this.connections) socket.destroy()
    await new Promise((done) => this.#server?.close(done) ?? done(undefined))
    this.#server = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server !== undefined) await this.close()
  }

  post(id: number): Posted {
    const known = this.commands.get(id)
    if (known !== undefined) return known
    const posted: Posted = { out: Buffer.alloc(0), err: Buffer.alloc(0), status: undefined }
    this.commands.set(id, posted)
    return posted
  }

  #order(verb: string, words: Record<string, number>, body: Buffer = Buffer.alloc(0)): void {
    const seq = this.#orders.length + 1
    this.#orders.push(Buffer.concat([Buffer.from(encodeLine(verb, { seq, ...words })), body]))
  }

  start(id: number, command: string, { directory = '/', environment = ['PATH=/usr/bin:/bin'] }: { directory?: string; environment?: string[] } = {}): void {
    const body = commandBody(command, directory, environment)
    this.#order('start', { id, bytes: body.length }, body)
  }

  signal(id: number, signal: number): void {
    this.#order('signal', { id, number: signal })
  }

  quit(): void {
    this.#order('quit', {})
  }

  verbs(): string[] {
    return this.heard.map((request) => request.verb)
  }

  #take(socket: Socket): void {
    let data: Buffer = Buffer.alloc(0)
    this.connections.add(socket)
    socket.on('error', () => { socket.destroy() })
    socket.on('close', () => { this.connections.delete(socket) })
    socket.on('data', (chunk: Buffer) => {
      data = Buffer.concat([data, chunk])
      const end = data.indexOf(0x0a)
      const message = end < 0 ? undefined : decodeLine(data.toString('utf8', 0, end))
      if (message === undefined || data.length < end + 1 + number(message, 'bytes')) return
      const request = { ...message, body: data.subarray(end + 1) }
      this.heard.push(request)
      if (this.fault?.(request, socket) !== true) socket.end(this.answer(request))
    })
  }

  answer(request: PostRequest): string | Buffer {
    switch (request.verb) {
      case 'work': return this.#orders[number(request, 'after')] ?? 'none\n'
      case 'output': return this.#takeOutput(request)
      case 'ended':
        this.post(number(request, 'id')).status = number(request, 'status')
        return 'ok\n'
      case 'launch': return this.#launch(request)
      case 'news': return this.#news(request)
      default: return 'ok\n'
    }
  }

  #takeOutput(request: PostRequest): string {
    const posted = this.post(number(request, 'id'))
    const stream = number(request, 'stream') === 1 ? 'out' : 'err'
    const news = request.body.subarray(posted[stream].length - number(request, 'offset'))
    posted[stream] = Buffer.concat([posted[stream], news])
    return 'ok\n'
  }

  #launch(request: PostRequest): string {
    if (this.refusal !== undefined) return encodeLine('refused', { message: this.refusal })
    const once = word(request, 'once') ?? ''
    const id = this.launched.get(once) ?? this.launched.size + 1
    this.launched.set(once, id)
    this.post(id)
    return encodeLine('launched', { id })
  }

  #news(request: PostRequest): string | Buffer {
    const posted = this.commands.get(number(request, 'id'))
    if (posted === undefined) return 'unknown\n'
    const max = number(request, 'max')
    const out = posted.out.subarray(number(request, 'out')).subarray(0, max)
    const err = posted.err.subarray(number(request, 'err')).subarray(0, max - out.length)
    const isRest = number(request, 'out') + out.length === posted.out.length && number(request, 'err') + err.length === posted.err.length
    const words = { out: out.length, err: err.length, bytes: out.length + err.length }
    const line = posted.status !== undefined && isRest ? encodeLine('ended', { status: posted.status, ...words }) : encodeLine('running', words)
    return Buffer.concat([Buffer.from(line), out, err])
  }
}
