import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Barrier } from '../../plugins/engines/criu/barrier.ts'
import { HeldProcess } from '../../daemon/linux/held-process.ts'
import { buildHelpers, soon } from '../support/helpers.ts'

/** CRIU's action script at its barrier, with a stand-in for the daemon. */

let helpers: string
let folder: string
let path: string
let server: Server
let heard: string[]
let clients: Socket[]

beforeAll(async () => { helpers = await buildHelpers() }, 120_000)
afterAll(() => { rmSync(helpers, { recursive: true }) })
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stint-barrier-'))
  path = join(folder, 'barrier.sock')
})
afterEach(async () => {
  if (server.listening) await leave()
  rmSync(folder, { recursive: true })
})

/** A daemon that answers each comer in its way. */
async function listen(answer: (client: Socket) => void): Promise<void> {
  [heard, clients] = [[], []]
  rmSync(path, { force: true })
  server = createServer((client) => {
    clients.push(client)
    client.on('error', () => { client.destroy() })
    client.on('data', (data: Buffer) => {
      heard.push(data.toString())
      answer(client)
    })
  })
  await new Promise<void>((done) => server.listen(path, done))
}

async function leave(): Promise<void> {
  for (const client of clients) client.destroy()
  await new Promise((done) => server.close(done))
}

async function barrier(environment: Record<string, string | undefined> = {}): Promise<number | undefined> {
  const env = { CRTOOLS_SCRIPT_ACTION: 'post-dump', STINT_BARRIER_ACTION: 'post-dump', STINT_BARRIER: path, STINT_BARRIER_TIMEOUT: '10', ...environment }
  return (await execa(join(helpers, 'stint-barrier'), { env, extendEnv: false, reject: false })).exitCode
}

describe('the barrier', () => {
  test.each([
    ['commit\n', 0],
    ['abort\n', 1],
    ['commit', 1],
    ['commit\ncommit\n', 1],
    ['commit \n', 1],
    ['Commit\n', 1],
    ['\n', 1],
    ['x'.repeat(100), 1],
  ])('lets %j mean exit %d', async (word, code) => {
    await listen((client) => client.end(word))
    expect(await barrier()).toBe(code)
    expect(heard).toEqual(['post-dump\n'])
  })

  test.each(['commit\n', 'abort\n'])('acts on %j at once, although the connection stays', async (word) => {
    await listen((client) => client.write(word))
    expect(await barrier()).toBe(word === 'commit\n' ? 0 : 1)
  })

  test('serves one action, the one it is told', async () => {
    await listen((client) => client.end('abort\n'))
    expect(await barrier({ CRTOOLS_SCRIPT_ACTION: 'pre-dump', STINT_ACT_AS: 'dump:0:0' })).toBe(0)
    expect(await barrier({ CRTOOLS_SCRIPT_ACTION: 'post-dump', STINT_BARRIER_ACTION: 'post-restore' })).toBe(0)
    expect(heard).toEqual([])
    expect(await barrier({ CRTOOLS_SCRIPT_ACTION: 'post-restore', STINT_BARRIER_ACTION: 'post-restore' })).toBe(1)
    expect(heard).toEqual(['post-restore\n'])
  })

  test.each([undefined, 'dump:4242:4242'])('refuses a CRIU that is not the user to the file system, before anything is touched: %s', async (identity) => {
    await listen((client) => client.end('commit\n'))
    expect(await barrier({ CRTOOLS_SCRIPT_ACTION: 'pre-dump', ...(identity === undefined ? {} : { STINT_ACT_AS: identity }) })).toBe(1)
    expect(heard).toEqual([])
  })

  test('told nothing, aborts', async () => {
    await listen((client) => client.end('commit\n'))
    expect([await barrier({ STINT_BARRIER: undefined }), await barrier({ STINT_BARRIER_ACTION: undefined })]).toEqual([1, 1])
  })

  test('takes silence for abort', async () => {
    await listen(() => undefined)
    const began = Date.now()
    expect(await barrier({ STINT_BARRIER_TIMEOUT: '1' })).toBe(1)
    expect(Date.now() - began).toBeGreaterThan(950)
  })

  test('comes again to the daemon that took the place of a dead one, and obeys that', async () => {
    await listen(() => undefined)
    const ended = barrier()
    await soon('it is there', () => heard.length === 1)
    await leave()
    await new Promise((done) => setTimeout(done, 500))
    await listen((client) => client.end('commit\n'))
    expect(await ended).toBe(0)
    expect(heard).toEqual(['post-dump\n'])
  })

  test('aborts when the daemon stays away', async () => {
    await listen(() => undefined)
    const ended = barrier({ STINT_BARRIER_RECONNECT: '1' })
    await soon('it is there', () => heard.length === 1)
    await leave()
    expect(await ended).toBe(1)
  })

  test('aborts when the daemon throws it out again and again', async () => {
    await listen((client) => { client.destroy() })
    expect(await barrier({ STINT_BARRIER_RECONNECT: '1' })).toBe(1)
    expect(heard).toHaveLength(6)
  })

  test.each([['commit', 0], ['abort', 1]] as const)('gets the daemon\'s %s when it comes from below the engine', async (word, code) => {
    await using daemons = new Barrier(folder, ['post-dump'])
    daemons.expect(HeldProcess.open(process.pid), [process.getuid?.() ?? 0])
    await daemons.open()
    const ended = barrier()
    await daemons.reached('post-dump')
    daemons.say(word)
    expect(await ended).toBe(code)
  })

  test('that comes as another user is not let in', async () => {
    await using daemons = new Barrier(folder, ['post-dump'])
    daemons.expect(HeldProcess.open(process.pid), [4711])
    await daemons.open()
    expect(await barrier({ STINT_BARRIER_RECONNECT: '1' })).toBe(1)
  })

  test('that is no child of the engine is not let in', async () => {
    await using daemons = new Barrier(folder, ['post-dump'])
    daemons.expect(HeldProcess.open(2 ** 22), [process.getuid?.() ?? 0])
    await daemons.open()
    expect(await barrier({ STINT_BARRIER_RECONNECT: '1' })).toBe(1)
  })
})
