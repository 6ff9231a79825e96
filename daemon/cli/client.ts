import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { text as readText } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { readAnswer } from '../core/answer.ts'
import { StintError, systemCode } from '../core/errors.ts'

/** Codes of a socket that nobody serves, or that was closed before the answer was whole. */
const absentCodes: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'EACCES', 'ENOTSOCK', 'EINVAL', 'ENAMETOOLONG', 'EAGAIN'])

/** More wait to be let in than the socket has room for: nothing was sent, so it is tried again for so long. */
const crowdedMilliseconds = 10_000
const crowdedPause = 100

async function answerOf(...args: Parameters<typeof answer>): ReturnType<typeof answer> {
  const end = performance.now() + crowdedMilliseconds
  for (;;) {
    try {
      return await answer(...args)
    } catch (cause) {
      if (systemCode(cause) !== 'EAGAIN' || performance.now() > end) throw cause
      await sleep(crowdedPause)
    }
  }
}

async function answer(socketPath: string, method: 'GET' | 'POST', path: string, text: string | undefined, signal: AbortSignal | undefined): Promise<{ status: number; body: string }> {
  const headers = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  const outgoing = request({ socketPath, method, path, headers, agent: false, ...(signal === undefined ? {} : { signal }) })
  const response = once(outgoing, 'response') as Promise<[IncomingMessage]>
  outgoing.end(text)
  const [incoming] = await response
  return { status: incoming.statusCode ?? 0, body: await readText(incoming) }
}

/**
 * Calls the local daemon.
 * @param signal gives up waiting for it
 * @throws StintError the daemon's own, or E_DAEMON_ABSENT
 */
export async function call<T>(socketPath: string, method: 'GET' | 'POST', path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const { status, body: text } = await answerOf(socketPath, method, path, body === undefined ? undefined : JSON.stringify(body), signal).catch((cause: unknown) => {
    throw absentCodes.has(systemCode(cause) ?? '') ? new StintError('E_DAEMON_ABSENT', `stintd does not answer at ${socketPath}`, { cause }) : cause
  })
  return readAnswer('the daemon', status, text) as T
}
