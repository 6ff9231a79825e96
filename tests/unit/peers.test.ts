import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from '@jest/globals'
import { pino } from 'pino'
import ssh2 from 'ssh2'
import { Peers } from '../../daemon/cluster/peers.ts'
import { refusal } from '../support/errors.ts'

/** Real sshd and daemons: tests/long/peers.test.ts. */

test('handshakes with many peers are made eight at a time; the others follow', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'stint-peers-'))
  const key = ssh2.utils.generateKeyPairSync('ed25519')
  writeFileSync(join(folder, 'key'), key.private)
  writeFileSync(join(folder, 'known_hosts'), `* ${key.public}\n`)
  const sockets = new Set<Socket>()
  let accepted = 0
  // Takes connections and never says a word.
  const server = createServer((socket) => {
    accepted++
    sockets.add(socket)
    socket.on('error', () => undefined)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const peers = new Peers({
    socketPath: '/none', port: (server.address() as AddressInfo).port, user: 'root', keyPath: join(folder, 'key'), knownHostsPaths: [join(folder, 'known_hosts')],
    connectTimeoutSeconds: 1, deadAfterSeconds: 5, requestTimeoutSeconds: 5, attempts: 1, idleSeconds: 5,
  }, pino({ level: 'silent' }), async () => Promise.resolve('127.0.0.1'))
  try {
    const refusals = Array.from({ length: 12 }, async (_, n) => refusal(async () => peers.connect(`m${n}`)))
    await sleep(500)
    expect(accepted).toBe(8)
    expect((await Promise.all(refusals)).map(({ code }) => code)).toEqual(Array.from({ length: 12 }, () => 'E_PEER'))
    expect(accepted).toBe(12)
  } finally {
    peers[Symbol.dispose]()
    for (const socket of sockets) socket.destroy()
    server.close()
    rmSync(folder, { recursive: true })
  }
})
