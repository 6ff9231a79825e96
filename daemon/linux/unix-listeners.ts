import { readFileSync } from 'node:fs'
import type { CommandRunner } from './command.ts'
import type { HeldProcess } from './held-process.ts'
import { unlessGone } from './processes.ts'
import type { Listener } from './tcp.ts'

/**
 * Unix sockets whose clients have sent data before they were accepted. CRIU connects those without data again, and has no way
 * to read what an accepted socket's queue will hold.
 */

/** State of a connection that nobody has accepted, in /proc/PID/net/unix: it has no inode yet. */
const unaccepted = /^\S+ \S+ \S+ \S+ \S+ 02 +0( |$)/m

interface UnixSocket {
  readonly state: string
  readonly receiveQueue: number
  readonly sendQueue: number
  readonly address: string
  readonly inode: string
  readonly peer: string
}

/** A line of `ss --unix --all --no-header`: type, state, queues, address with inode, peer's address with inode. An address may hold blanks. */
function parseLine(line: string): UnixSocket | undefined {
  const [, state = '', receive = '', send = '', ...rest] = line.trimEnd().split(/ +/)
  const [inode = '', , peer = ''] = rest.slice(-3)
  if (rest.length < 4 || ![receive, send, inode, peer].every((number) => /^\d+$/.test(number))) return undefined
  return { state, receiveQueue: Number(receive), sendQueue: Number(send), address: rest.slice(0, -3).join(' '), inode, peer }
}

/** Listeners with connections to accept, where a client that has no peer yet has sent something. */
export function parseUnixListeners(text: string): Listener[] {
  const sockets = text.split('\n').map(parseLine).filter((socket) => socket !== undefined)
  if (!sockets.some(({ state, sendQueue, peer }) => state === 'ESTAB' && sendQueue > 0 && peer === '0')) return []
  return sockets.filter(({ state, receiveQueue }) => state === 'LISTEN' && receiveQueue > 0).map(({ inode, receiveQueue, address }) => ({ inode, waiting: receiveQueue, address }))
}

/** In the network namespace of a sandbox, or of the node (net=host). A program is started only where a connection waits at all. @throws StintError E_COMMAND_FAILED */
export async function unixListeners(commands: CommandRunner, programs: { readonly nsenter: string; readonly ss: string }, pid1: HeldProcess): Promise<Listener[]> {
  if (!unaccepted.test(unlessGone(() => readFileSync(`${pid1.proc}/net/unix`, 'utf8')) ?? '')) return []
  const { stdout } = await commands.run([programs.nsenter, ...pid1.enter('net?'), programs.ss, '--unix', '--all', '--no-header'])
  return parseUnixListeners(stdout)
}
