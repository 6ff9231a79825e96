import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { text as readText } from 'node:stream/consumers'
import { readAnswer } from '../core/answer.ts'
import { StintError, systemCode } from '../core/errors.ts'

/** Codes of a socket that nobody serves, or that was closed before the answer was whole. */
const absentCodes: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'EACCES', 'ENOTSOCK', 'EINVAL', 'ENAMETOOLONG'])

async function answer(socketPath: string, method: 'GET' | 'POST', path: string, text: string | undefined): Promise<{ status: number; body: string }> {
  const headers = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  const outgoing = request({ socketPath, method, path, headers, agent: false })
  const response = once(outgoing, 'response') as Promise<[IncomingMessage]>
  outgoing.end(text)
  const [incoming] = await response
  return { status: incoming.statusCode ?? 0, body: await readText(incoming) }
}

/** Calls the local daemon. @throws StintError the daemon's own, or E_DAEMON_ABSENT */
export async function call<T>(socketPath: string, method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
  const { status, body: text } = await answer(socketPath, method, path, body === undefined ? undefined : JSON.stringify(body)).catch((cause: unknown) => {
    throw absentCodes.has(systemCode(cause) ?? '') ? new StintError('E_DAEMON_ABSENT', `stintd does not answer at ${socketPath}`, { cause }) : cause
  })
  return readAnswer('the daemon', status, text) as T
}
