import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { text as readText } from 'node:stream/consumers'

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

export interface Answer {
  readonly status: number
  readonly text: string
}

/** One HTTP/1.1 request over a stream of its own, which is closed afterwards. @throws Error whatever Node.js makes of a broken stream */
export async function exchange(stream: Duplex, host: string, method: Method, path: string, body: unknown, signal: AbortSignal): Promise<Answer> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  const headers = { host, ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }) }
  try {
    const outgoing = request({ createConnection: () => stream, method, path, headers, signal })
    const response = once(outgoing, 'response') as Promise<[IncomingMessage]>
    outgoing.on('error', () => undefined) // Before the response `once` rejects with it, afterwards reading the body does.
    outgoing.end(text)
    const [incoming] = await response
    return { status: incoming.statusCode ?? 0, text: await readText(incoming) }
  } finally {
    stream.destroy()
  }
}
