import { request } from 'node:http'
import { StintError, isErrorCode, systemCode } from '../core/errors.ts'

/** What the daemon answered to a refused request, as the error it was. */
function errorOf(status: number, text: string): StintError {
  try {
    const body = JSON.parse(text) as { code?: unknown; message?: unknown; hint?: unknown }
    if (isErrorCode(body.code)) return new StintError(body.code, String(body.message), { hint: String(body.hint) })
  } catch {
    // Not JSON: reported as it stands below.
  }
  return new StintError('E_INTERNAL', `the daemon answered ${status}: ${text.slice(0, 200)}`)
}

/** Calls the local daemon. @throws StintError the daemon's own, or E_DAEMON_ABSENT */
export async function call<T>(socketPath: string, method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const text = body === undefined ? undefined : JSON.stringify(body)
  const outgoing = request({ socketPath, method, path, headers: text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } }, (response) => {
    let answer = ''
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => { answer += chunk })
    response.on('end', () => {
      const status = response.statusCode ?? 0
      if (status < 300) resolve(JSON.parse(answer) as T)
      else reject(errorOf(status, answer))
    })
  })
  outgoing.on('error', (cause) => {
    const absent = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EACCES'].includes(systemCode(cause) ?? '')
    reject(absent ? new StintError('E_DAEMON_ABSENT', `stintd does not answer at ${socketPath}`, { cause }) : cause)
  })
  outgoing.end(text)
  return promise
}
