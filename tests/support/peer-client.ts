import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { Peers, peerSettings } from '../../daemon/cluster/peers.ts'
import { resolveConfig } from '../../daemon/core/config.ts'
import { asStintError } from '../../daemon/core/errors.ts'

/**
 * The product's `Peers` on a node, for tests on the machine beside it: takes orders on standard input, a JSON line each,
 * and prints an outcome for each. At the end of its input it disposes of everything and must then end by itself.
 * Usage: peer-client CONFIG (the configuration file as JSON)
 */

export type Order =
  | { readonly id: number; readonly verb: 'request'; readonly node: string; readonly method: 'GET' | 'POST'; readonly path: string; readonly body?: unknown; readonly timeoutSeconds?: number }
  | { readonly id: number; readonly verb: 'connect'; readonly node: string }
  | { readonly id: number; readonly verb: 'abort' }

export interface Outcome {
  readonly id: number
  readonly ms: number
  readonly value?: unknown
  readonly error?: { readonly code: string; readonly message: string; readonly hint: string; readonly sent: boolean }
}

const log = pino({ level: 'debug' }, pino.destination(2))
const peers = new Peers(peerSettings(resolveConfig(JSON.parse(process.argv[2] ?? '{}') as Record<string, unknown>)), log)
const underWay = new Map<number, AbortController>()

function print(outcome: Outcome): void {
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}

async function carryOut(order: Exclude<Order, { verb: 'abort' }>, signal: AbortSignal): Promise<unknown> {
  if (order.verb === 'request') return peers.request(order.node, order.method, order.path, order.body, { signal, ...(order.timeoutSeconds === undefined ? {} : { timeoutSeconds: order.timeoutSeconds }) })
  await peers.connect(order.node, { signal })
  return null
}

async function report(order: Exclude<Order, { verb: 'abort' }>): Promise<void> {
  const started = performance.now()
  const abort = new AbortController()
  underWay.set(order.id, abort)
  const ms = (): number => performance.now() - started
  try {
    const value = await carryOut(order, abort.signal)
    print({ id: order.id, ms: ms(), value })
  } catch (cause) {
    const { code, message, hint, details } = asStintError(cause)
    print({ id: order.id, ms: ms(), error: { code, message, hint, sent: details['sent'] === true } })
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const order = JSON.parse(line) as Order
  if (order.verb === 'abort') underWay.get(order.id)?.abort()
  else void report(order)
}).on('close', () => { peers[Symbol.dispose]() })
