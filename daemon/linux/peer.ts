import { endianness } from 'node:os'
import type { Socket } from 'node:net'
import koffi from 'koffi'
import { StintError } from '../core/errors.ts'

export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

const SOL_SOCKET = 1
const SO_PEERCRED = 17
type Getsockopt = (fd: number, level: number, option: number, value: Buffer, length: Int32Array) => number
let getsockopt: Getsockopt | undefined

function loadGetsockopt(): Getsockopt {
  getsockopt ??= koffi.load('libc.so.6').func('int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ int *)') as unknown as Getsockopt
  return getsockopt
}

/**
 * Who connected, by the kernel (unix(7), SO_PEERCRED): the process that called connect, as it was then.
 * @throws StintError E_NOT_VERIFIED when the socket is gone or no Unix socket
 */
export function peerCredentials(socket: Socket): PeerCredentials {
  // Node.js has no public way to a socket's descriptor; the handle has carried `fd` since 0.x.
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
  if (fd === undefined || fd < 0) throw new StintError('E_NOT_VERIFIED', 'the connection has ended')
  const value = Buffer.alloc(12)
  if (loadGetsockopt()(fd, SOL_SOCKET, SO_PEERCRED, value, new Int32Array([12])) !== 0) {
    throw new StintError('E_NOT_VERIFIED', "the kernel does not tell the peer's credentials")
  }
  const read = (at: number): number => (endianness() === 'LE' ? value.readInt32LE(at) : value.readInt32BE(at))
  return { pid: read(0), uid: read(4), gid: read(8) }
}
