import { expect } from '@jest/globals'
import { execa } from 'execa'
import { once } from 'node:events'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { errorKinds, type ErrorCode } from '../../daemon/core/errors.ts'

/** Requests to an API on a Unix socket, without the product's client between. */

export interface Answer { readonly status: number; readonly body: unknown }

export async function ask(socketPath: string, method: string, path: string, body?: string, type = 'application/json'): Promise<Answer> {
  const outgoing = request({ socketPath, method, path, headers: body === undefined ? {} : { 'content-type': type } })
  outgoing.end(body)
  const [response] = await once(outgoing, 'response') as [NodeJS.ReadableStream & { statusCode: number }]
  return { status: response.statusCode, body: JSON.parse(await text(response)) as unknown }
}

/** The same from a process of another user. */
export async function askAs(uid: number, socketPath: string, method: string, path: string, body = ''): Promise<Answer> {
  const program = `
    const { request } = require('node:http')
    process.setgroups([]); process.setgid(${uid}); process.setuid(${uid})
    const [socketPath, method, path, body] = process.argv.slice(1)
    const outgoing = request({ socketPath, method, path, headers: method === 'POST' ? { 'content-type': 'application/json' } : {} }, async (response) => {
      let text = ''
      for await (const chunk of response) text += chunk
      process.stdout.write(JSON.stringify({ status: response.statusCode, body: JSON.parse(text) }))
    })
    outgoing.end(method === 'POST' ? body : undefined)`
  const { stdout } = await execa(process.execPath, ['-e', program, socketPath, method, path, body])
  return JSON.parse(stdout) as Answer
}

/** What an API answers to what it refuses with this code. */
export function refused(code: ErrorCode, message: unknown = expect.any(String)): unknown {
  return { status: errorKinds[code].http, body: { code, message, hint: expect.any(String) as unknown } }
}
