import koffi from 'koffi'
import { StintError } from '../core/errors.ts'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000

/** sockaddr_un(7) of a socket's path; `@` stands for the null byte of an abstract one. */
export function unixAddress(path: string): Buffer {
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1)
  address.writeUInt16LE(AF_UNIX, 0)
  address.write(path, 2)
  if (!path.startsWith('@')) return address
  address[2] = 0
  return address.subarray(0, -1) // The length tells where an abstract name ends.
}

/**
 * Tells systemd the service's state (sd_notify(3)); without NOTIFY_SOCKET there is nobody to tell.
 * @param state such as `READY=1` or `STOPPING=1`
 * @throws StintError E_COMMAND_FAILED when there is somebody, but the message does not get there
 */
export function notifyServiceManager(state: string, path: string | undefined): void {
  if (path === undefined || !/^[/@]/.test(path)) return
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int, int, int)') as unknown as (domain: number, type: number, protocol: number) => number
  const sendto = libc.func('intptr_t sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)') as unknown as
    (fd: number, text: Buffer, length: number, flags: number, address: Buffer, addressLength: number) => number
  const close = libc.func('int close(int)') as unknown as (fd: number) => number
  // Node.js has no datagram sockets of the Unix domain.
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw new StintError('E_COMMAND_FAILED', 'no socket for systemd')
  const [text, address] = [Buffer.from(state), unixAddress(path)]
  const sent = sendto(fd, text, text.length, 0, address, address.length)
  close(fd)
  if (sent !== text.length) throw new StintError('E_COMMAND_FAILED', `systemd does not listen at ${path}`)
}

/**
 * Tells systemd again and again that the event loop turns: a daemon that hangs is ended and started anew (WatchdogSec= of the unit), and
 * the next one finds the jobs as they are.
 * @param environment with WATCHDOG_USEC where the unit asks for it (sd_watchdog_enabled(3)), and NOTIFY_SOCKET
 * @param onError called when the message does not get there
 */
export function keepWatchdog(environment: NodeJS.ProcessEnv, onError: (error: unknown) => void): Disposable {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid, NOTIFY_SOCKET: path } = environment
  const period = Number(microseconds ?? 0) / 1000
  if (!(period > 0) || (pid !== undefined && Number(pid) !== process.pid)) return { [Symbol.dispose]: () => undefined }
  const timer = setInterval(() => {
    try {
      notifyServiceManager('WATCHDOG=1', path)
    } catch (error) {
      onError(error)
    }
  }, period / watchdogBeats).unref()
  return { [Symbol.dispose]: () => { clearInterval(timer) } }
}

/** So often within the time systemd waits: half, as it recommends, would leave no room for a busy machine. */
const watchdogBeats = 4
