import { pino } from 'pino'
import { Peers, peerSettings } from '../../daemon/cluster/peers.ts'
import { resolveConfig } from '../../daemon/core/config.ts'

/**
 * What one small request to the daemon of another node takes: the first, with the SSH handshake, and over the open connection.
 * Usage: peer-latency NODE, as root on a node
 */

const [, , node = ''] = process.argv
const rounds = 500
using peers = new Peers(peerSettings(resolveConfig({})), pino({ level: 'silent' }))

async function timed(): Promise<number> {
  const started = performance.now()
  await peers.hello(node)
  return performance.now() - started
}

const first = await timed()
const others: number[] = []
for (let round = 0; round < rounds; round++) others.push(await timed())
others.sort((a, b) => a - b)
const at = (share: number): string => (others[Math.floor(rounds * share)] ?? Number.NaN).toFixed(2)
process.stdout.write(`first ${first.toFixed(1)} ms; then of ${rounds}: median ${at(0.5)} ms, 95 of 100 within ${at(0.95)} ms\n`)
