import { closeSync, readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import type { Socket } from 'node:net'
import koffi from 'koffi'
import { StintError } from '../core/errors.ts'
import { HeldProcess } from './held-process.ts'

export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

const SOL_SOCKET = 1
const SO_PEERCRED = 17
/** Since Linux 6.5, the same on all architectures but parisc and sparc. */
const SO_PEERPIDFD = 77
const { ENOPROTOOPT } = koffi.os.errno
type Getsockopt = (fd: number, level: number, option: number, value: Buffer, length: Int32Array) => number
let getsockopt: Getsockopt | undefined

function loadGetsockopt(): Getsockopt {
  getsockopt ??= koffi.load('libc.so.6').func('int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ int *)') as unknown as Getsockopt
  return getsockopt
}

const readInt = (value: Buffer, at: number): number => (endianness() === 'LE' ? value.readInt32LE(at) : value.readInt32BE(at))

/** @throws StintError E_NOT_VERIFIED when the connection has ended */
function descriptorOf(socket: Socket): number {
  // Node.js has no public way to a socket's descriptor; the handle has carried `fd` since 0.x.
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
  if (fd === undefined || fd < 0) throw new StintError('E_NOT_VERIFIED', 'the connection has ended')
  return fd
}

/**
 * Who connected, by the kernel (unix(7), SO_PEERCRED): the process that called connect, as it was then. Its PID may be another's by now.
 * @throws StintError E_NOT_VERIFIED when the socket is gone or no Unix socket
 */
export function peerCredentials(socket: Socket): PeerCredentials {
  const value = Buffer.alloc(12)
  if (loadGetsockopt()(descriptorOf(socket), SOL_SOCKET, SO_PEERCRED, value, new Int32Array([12])) !== 0) {
    throw new StintError('E_NOT_VERIFIED', "the kernel does not tell the peer's credentials")
  }
  return { pid: readInt(value, 0), uid: readInt(value, 4), gid: readInt(value, 8) }
}

/** The peer's PID by its pidfd: -1 when it has ended, undefined where the kernel has no SO_PEERPIDFD. */
function pidByPidfd(socket: Socket): number | undefined {
  const value = Buffer.alloc(4)
  if (loadGetsockopt()(descriptorOf(socket), SOL_SOCKET, SO_PEERPIDFD, value, new Int32Array([4])) !== 0) return koffi.errno() === ENOPROTOOPT ? undefined : -1
  const pidfd = readInt(value, 0)
  try {
    return Number(/^Pid:\s+(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'utf8'))?.[1] ?? -1)
  } finally {
    closeSync(pidfd)
  }
}

/**
 * Holds the process that connected. The kernel is asked for its number after the number was opened, by a pidfd: a process that has it
 * before and after has had it meanwhile. Where there is no SO_PEERPIDFD the user id must be the one that connected, at least.
 * @throws StintError E_NOT_VERIFIED when that process has ended
 */
export function holdPeer(socket: Socket): HeldProcess {
  const { pid, uid } = peerCredentials(socket)
  const held = HeldProcess.open(pid)
  const still = pidByPidfd(socket)
  if (held.isAlive && (still === undefined ? held.uid === uid : still === pid)) return held
  held[Symbol.dispose]()
  throw new StintError('E_NOT_VERIFIED', `process ${pid} has connected and ended`)
}
