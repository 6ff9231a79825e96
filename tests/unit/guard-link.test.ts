import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { maxLineBytes, type Message } from '../../daemon/core/wire.ts'
import { peerCredentials } from '../../daemon/linux/peer.ts'
import { GuardLink } from '../../daemon/member/monitor-connection.ts'
import { said } from '../support/errors.ts'

/** A guard's connection, over a real Unix socket. */

let folder: string
let server: Server
let guard: Socket
let link: GuardLink
let heard: Message[]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stint-link-'))
  server = createServer().listen(join(folder, 's'))
  await once(server, 'listening')
})
afterAll(() => {
  server.close()
  rmSync(folder, { recursive: true })
})
beforeEach(async () => {
  const accepted = once(server, 'connection') as Promise<[Socket]>
  guard = connect(join(folder, 's'))
  guard.on('error', () => undefined)
  link = new GuardLink((await accepted)[0], pino({ level: 'silent' }))
  heard = []
  link.onMessage = (message) => { heard.push(message) }
})

afterEach(() => {
  guard.destroy()
  link.close()
})

/** What was written before is heard after it, also where the process stood still for longer: setImmediate comes after the loop has read. */
const soon = async (): Promise<void> => {
  await new Promise((done) => setTimeout(done, 20))
  await new Promise((done) => setImmediate(done))
}
const verbs = (): string[] => heard.map((message) => message.verb)

describe('a guard\'s connection', () => {
  test('knows its peer from the kernel', () => {
    expect(link.peer).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
  })

  test('has heard what was said in time, also when the daemon itself was busy until after it', async () => {
    const held = link.expect('held', 0.05)
    guard.write('held\n')
    for (const end = Date.now() + 200; Date.now() < end;); // As SQLite's wait for a disk that others write to.
    expect((await held).verb).toBe('held')
  })

  test('hears whole lines however they are cut, and passes over what is none', async () => {
    for (const piece of ['si', 'gnal number=10\nexit sta', 'tus=0\n\n???\n', 'caf', Buffer.from([0xc3]), Buffer.from([0xa9, 0x0a]), 'held']) {
      guard.write(piece)
      await soon()
    }
    expect(verbs()).toEqual(['signal', 'exit'])
    guard.write('\n')
    await soon()
    expect(verbs()).toEqual(['signal', 'exit', 'held'])
  })

  test('gives an awaited line to who waits, and the next one to everybody', async () => {
    const held = link.expect('held', 5)
    guard.write('signal number=1\nheld x=1\nheld x=2\n')
    expect((await held).words.get('x')).toEqual(['1'])
    await soon()
    expect(verbs()).toEqual(['signal', 'held'])
  })

  test('does not wait longer than it was told, and hears what comes late', async () => {
    expect(await said(() => link.expect('held', 0.02))).toBe('E_NOT_RUNNING: the sandbox did not say "held" within 0.02 s')
    guard.write('held\n')
    await soon()
    expect(verbs()).toEqual(['held'])
  })

  test('that ends tells those who wait, and who watches', async () => {
    let closed = false
    link.onClose = () => { closed = true }
    const waiting = said(() => link.expect('held', 60))
    guard.destroy()
    expect(await waiting).toBe('E_NOT_RUNNING: the sandbox ended before it said "held"')
    expect([closed, link.open]).toEqual([true, false])
    link.send('go')
  })

  test('sends lines', async () => {
    link.send('say', { text: 'a b' })
    const [data] = await once(guard, 'data') as [Buffer]
    expect(data.toString()).toBe('say text=a%20b\n')
  })

  test.each([
    ['without an end', 'x'.repeat(maxLineBytes + 1)],
    ['in one piece', `exit status=0 x=${'x'.repeat(maxLineBytes)}\n`],
    ['of wide characters', 'é'.repeat(maxLineBytes / 2 + 1)],
  ])('is ended by an overlong line %s', async (_, text) => {
    const ended = once(guard, 'close')
    guard.write(text)
    await ended
    expect([link.open, verbs()]).toEqual([false, []])
  })

  test('takes a line of the greatest length', async () => {
    const head = 'exit status=0 x='
    guard.write(`${head}${'x'.repeat(maxLineBytes - head.length - 1)}\n`)
    await soon()
    expect(verbs()).toEqual(['exit'])
  })
})

describe('the peer of a connection', () => {
  test('that has ended is verified no more', async () => {
    const socket = connect(join(folder, 's'))
    await once(socket, 'connect')
    socket.destroy()
    await soon()
    expect(await said(() => peerCredentials(socket))).toBe('E_NOT_VERIFIED: the connection has ended')
  })
})
