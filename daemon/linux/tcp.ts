import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import type { ProcessPlace } from './held-process.ts'
import { unlessGone } from './processes.ts'

export interface Connection {
  readonly inode: string
  readonly localAddress: string
  readonly localPort: number
  readonly remoteAddress: string
  readonly remotePort: number
  readonly isEstablished: boolean
  /** Written by this side, not acknowledged by the other; a FIN counts as one byte. */
  readonly unsentBytes: number
}

/** States of include/net/tcp_states.h in hexadecimal. */
const established = '01'
/** No end of a connection, or one that has nothing left to do: SYN_RECV, TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV. */
const unconnected = new Set(['03', '06', '07', '0A', '0C'])

/** The kernel prints addresses as 32-bit words in host byte order. */
function parseAddress(hex: string): string {
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => {
    const pairs = (word.match(/../g) ?? []).map((pair) => parseInt(pair, 16))
    return endianness() === 'LE' ? pairs.toReversed() : pairs
  })
  const v4 = bytes.length === 16 && bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 0xff ? bytes.slice(12) : bytes
  if (v4.length === 4) return v4.join('.')
  return Array.from({ length: 8 }, (_, i) => (((v4[2 * i] ?? 0) << 8) | (v4[2 * i + 1] ?? 0)).toString(16)).join(':')
}

/** Connections, half-closed ones and those nobody has open any more (inode 0) included, out of /proc/PID/net/tcp or tcp6 (proc_net_tcp in the kernel's documentation). */
export function parseTcp(text: string): Connection[] {
  return text.split('\n').slice(1).flatMap((line) => {
    const [, local, remote, state = '', queues, , , , , inode] = line.trim().split(/\s+/)
    const [localHex = '', localPort = ''] = local?.split(':') ?? []
    const [remoteHex = '', remotePort = ''] = remote?.split(':') ?? []
    if (inode === undefined || unconnected.has(state)) return []
    return [{
      inode,
      localAddress: parseAddress(localHex),
      localPort: parseInt(localPort, 16),
      remoteAddress: parseAddress(remoteHex),
      remotePort: parseInt(remotePort, 16),
      isEstablished: state === established,
      unsentBytes: parseInt(queues ?? '0', 16),
    }]
  })
}

/** TCP connections in a process's network namespace. */
export function connectionsOf({ proc }: ProcessPlace): Connection[] {
  return ['tcp', 'tcp6'].flatMap((table) => parseTcp(unlessGone(() => readFileSync(`${proc}/net/${table}`, 'utf8')) ?? ''))
}

export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '0:0:0:0:0:0:0:1'
}

/** A socket that listens with connections nobody has accepted yet. */
export interface Listener {
  readonly inode: string
  readonly waiting: number
  readonly address: string
}

const listening = '0A'

/** Listeners with connections to accept out of /proc/PID/net/tcp or tcp6: the receive queue of one that listens counts connections. */
export function parseListeners(text: string): Listener[] {
  return text.split('\n').slice(1).flatMap((line) => {
    const [, local, , state, queues, , , , , inode] = line.trim().split(/\s+/)
    const waiting = parseInt(queues?.split(':')[1] ?? '0', 16)
    if (state !== listening || inode === undefined || waiting === 0) return []
    const [hex = '', port = ''] = local?.split(':') ?? []
    return [{ inode, waiting, address: `port ${parseInt(port, 16)} of ${parseAddress(hex)}` }]
  })
}

/** Listeners with connections to accept in a process's network namespace. */
export function tcpListeners({ proc }: ProcessPlace): Listener[] {
  return ['tcp', 'tcp6'].flatMap((table) => parseListeners(unlessGone(() => readFileSync(`${proc}/net/${table}`, 'utf8')) ?? ''))
}
