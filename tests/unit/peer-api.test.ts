import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { chmodSync, lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { servePeerApi } from '../../daemon/http/peer-api.ts'
import { ask, askAs, refused } from '../support/ask.ts'
import { alice, makeContext, type TestContext } from '../support/context.ts'

/** The API between daemons, on a real Unix socket; the way over SSH is tests/long/peers.test.ts. */

let made: TestContext
let serving: AsyncDisposable
let socketPath: string

beforeAll(async () => {
  made = makeContext()
  serving = await servePeerApi(made.context)
  socketPath = made.context.config.paths.peer_socket
})
afterAll(async () => {
  await serving[Symbol.asyncDispose]()
  await made[Symbol.asyncDispose]()
})

test('a daemon says which node it is, and its version', async () => {
  expect(await ask(socketPath, 'GET', '/v1/peer/hello')).toEqual({ status: 200, body: { node: 'n1', version: '0.0.0', keys: [] } })
})

test('the socket is for root alone', () => {
  expect(lstatSync(socketPath).mode & 0o777).toBe(0o600)
})

test.each(['/v1/peer/hello', '/v1/openapi.json', '/v1/nothing'])('whoever reaches the socket all the same and is not root is refused %s, and that is logged', async (path) => {
  chmodSync(socketPath, 0o666)
  made.logged.length = 0
  try {
    expect(await askAs(alice, socketPath, 'GET', path)).toEqual(refused('E_FORBIDDEN', 'only root may ask here'))
    expect(made.logged).toContainEqual(expect.objectContaining({ msg: 'request refused', code: 'E_FORBIDDEN', uid: alice }))
  } finally {
    chmodSync(socketPath, 0o600)
  }
})

test('a user of another node sees and acts on own jobs only, also through the daemon there', async () => {
  made.addSandbox(5)
  for (const [what, body] of [['check', {}], ['checkpoints', { keepRunning: true }]] as const) {
    expect(await ask(socketPath, 'POST', `/v1/peer/jobs/5/${what}`, JSON.stringify({ ...body, uid: alice + 1 }))).toEqual(refused('E_FORBIDDEN', 'this job belongs to another user'))
    expect(await ask(socketPath, 'POST', `/v1/peer/jobs/6/${what}`, JSON.stringify({ ...body, uid: alice }))).toEqual(refused('E_NOT_RUNNING'))
    expect(await ask(socketPath, 'POST', `/v1/peer/jobs/5/${what}`, JSON.stringify(body))).toEqual(refused('E_BAD_REQUEST'))
  }
})

test('it has the routes and rules of its own description, and none of the users\' API', async () => {
  expect((await ask(socketPath, 'GET', '/v1/openapi.json')).body).toEqual(JSON.parse(readFileSync(join(import.meta.dirname, '../../docs/reference/peer-openapi.json'), 'utf8')))
  expect(await ask(socketPath, 'GET', '/v1/runs')).toEqual(refused('E_NO_SUCH_ROUTE'))
  expect(await ask(socketPath, 'GET', '/v1/peer/hello?x=1')).toEqual(refused('E_BAD_REQUEST', 'unknown key "x"; known: none'))
})
