import { describe, expect, test } from '@jest/globals'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { firstError, isPassing, remedyFor, unknownError } from '../../plugins/engines/criu/log.ts'

/** Recorded logs of CRIU 4.2.1 at -v4, cut down to the surroundings of errors and warnings. */
const folder = join(import.meta.dirname, '..', 'fixtures', 'criu-logs')
const logOf = (name: string): string => readFileSync(join(folder, `${name}.log`), 'utf8')

const failures = {
  'dump-message-queue': ["Can't lookup mount=277 for fd=3 path=/q", 'POSIX message queue'],
  'dump-traced-process': ['Unseizable non-zombie 1006 found, state S, err -1/10', 'being traced'],
  'dump-user-namespace': ["Can't dump nested user namespace for 1002", 'user namespace'],
  'dump-io-uring': ['send_fds failed (-22)', 'UV_USE_IO_URING=0'],
  'dump-device': ["Can't dump file 3 of that type [20666] (chr 10:229)", 'holds a device open'],
  'dump-userfaultfd': ["Can't dump file 3 of that type [600] (anon anon_inode:[userfaultfd])", 'kernel facility'],
  'dump-netlink-with-data': ['netlink: The socket has data to read', 'Save again a moment later'],
  'dump-unix-socket-outside': ['unix: External socket is used. Consider using --ext-unix-sk option.', 'Unix socket'],
  'dump-set-uid-program': ["Can't get rlimit 0: Operation not permitted", 'criu-shim.so'],
  'dump-address-space': ['remote mmap() failed: Cannot allocate memory', 'ulimit -v'],
  'dump-epoll-escaped': ['Dump eventpoll (pid: 1001) failed with -1', 'EPOLL_CTL_DEL'],
  'dump-main-thread-ended': ['Zombies with threads are not supported', 'pthread_join'],
  'dump-output-on-the-node': ["Can't lookup mount=958 for fd=1 path=/tmp/node-output.17", '--output'],
  'dump-packet-pipe': ['The packetized mode for pipes is not supported yet', 'O_DIRECT'],
  'dump-secret-memory': ['Unknown shit 100600 (/secretmem (deleted))', 'memfd_secret'],
  'dump-connection-not-accepted': ['inet: In-flight connection (l) for 166e76', 'accepted'],
  'dump-unix-connection-not-accepted': ['unix: Non-empty write queue on an in-flight socket 0x167194', 'accepted'],
  'dump-vfork': ['Timeout reached. Try to interrupt: 0', 'vfork'],
  'dump-disk-full': ['page-xfer: Unable to spice data: No space left on device', 'store is full'],
  'dump-without-sys-admin': ['suspending seccomp failed: Operation not permitted', 'lacks a capability'],
  'dump-without-net-admin': ["Can't turn TCP repair mode ON: Operation not permitted", 'lacks a capability'],
  'dump-link-remap-exists': ["Can't link remap to /home/alice/lr1001: File exists", 'directories of their own'],
  'dump-job-already-ended': ['Unable to interrupt task: 1000 (No such process)', 'already ended'],
  'pre-dump-without-dirty-tracking': ['BUG at criu/mem.c:46', 'without pre-dump'],
  'restore-file-of-other-size': ['File home/alice/grow has bad size 1004 (expect 1000)', 'changed after it was saved'],
  'restore-file-vanished': ["Can't open file home/alice/gone on restore: No such file or directory", 'no longer exists'],
  'restore-pid-taken': ["Can't fork for 1001: File exists", 'still taken'],
  'restore-address-missing': ["inet: Can't bind inet socket (id 16): Cannot assign requested address", 'network address'],
} as const

const successes = ['dump-succeeded', 'restore-succeeded']

describe('the log of CRIU', () => {
  test.each(Object.entries(failures))('%s: the real error is found, with a remedy', (name, [error, remedy]) => {
    const found = firstError(logOf(name))
    expect(found).toBe(error)
    expect(remedyFor(found ?? '')).toContain(remedy)
  })

  test.each(successes)('%s has no error', (name) => {
    expect(firstError(logOf(name))).toBeUndefined()
  })

  test('every recorded log is tested', () => {
    const recorded = readdirSync(folder).filter((file) => file.endsWith('.log')).map((file) => file.replace('.log', ''))
    expect(recorded.sort()).toEqual([...Object.keys(failures), ...successes].sort())
  })

  test('the recorded restore has harmless errors to skip', () => {
    expect(logOf('restore-succeeded')).toMatch(/Error .*RLIMIT_NOFILE/)
    expect(logOf('restore-succeeded')).toMatch(/Error .*tun: Unable/)
  })

  test('a consequence is told when the log has nothing better', () => {
    expect(firstError('(00.000100) Error (criu/cr-dump.c:1975): Dumping FAILED.')).toBe('Dumping FAILED.')
  })

  test('a task that ended while it was frozen is no error', () => {
    const warning = '(00.005429) Warn  (compel/src/lib/infect.c:132): Unable to interrupt task: 1006 (No such process)'
    expect(firstError(`${warning}\n(00.006000) Error (criu/files-reg.c:2175): File x has bad size 2 (expect 1)`)).toBe('File x has bad size 2 (expect 1)')
    expect(firstError(`${warning}\n(00.006000) Dumping finished successfully`)).toBeUndefined()
  })

  test('errors before the log is open have no time stamp', () => {
    expect(firstError("Error (criu/log.c:226): Can't create log file dump.log: Permission denied\n")).toBe("Can't create log file dump.log: Permission denied")
  })

  test.each(['', '\n', '(00.0', 'Error', '(00.000001) Warn  (criu/x.c:1): Error is a word here'])('%j has no error', (text) => {
    expect(firstError(text)).toBeUndefined()
  })

  test('an unknown error has no remedy', () => {
    expect(remedyFor('Something new')).toBeUndefined()
    expect(remedyFor('')).toBeUndefined()
  })

  test('an unknown error is told with what CRIU was at, and how to report it', () => {
    const log = logOf('dump-packet-pipe').replace('The packetized mode for pipes is not supported yet', 'Something new')
    expect(unknownError(log, 'Something new', '/x/dump.log')).toMatch(/^CRIU was saving python3 \(PID 1001 in the sandbox\), descriptor 4\. .*report it with \/x\/dump\.log/)
    expect(unknownError('Error (criu/x.c:1): Something new', 'Something new', '/x/dump.log')).toMatch(/^Stint does not know this error yet/)
  })

  test('what may be over in a moment is known as such, what stays is not', () => {
    for (const name of ['dump-connection-not-accepted', 'dump-unix-connection-not-accepted', 'dump-netlink-with-data'] as const) expect(isPassing(failures[name][0])).toBe(true)
    for (const name of ['dump-vfork', 'dump-device', 'restore-file-vanished'] as const) expect(isPassing(failures[name][0])).toBe(false)
    expect(isPassing('Something new')).toBe(false)
  })

  test.each([
    // From restores that came too late for a remedy beforehand, and from the sources of CRIU 4.2.
    ["Can't chose service_fd_base: 19968 20032", 'LimitNOFILE'],
    ['PR_SET_MM_MAP failed with -13', 'chmod u+x'],
    ['libnet_open_raw4(): SOCK_RAW allocation failed', 'net_raw'],
    ['inet: Unsupported proto 262 for socket 1f', 'GODEBUG=multipathtcp=0'],
    ['BUG! Unknown socket collected (family 40)', 'AF_VSOCK'],
    ['pidfd: pidfd pid 7 is not a part of process tree..', 'pidfd'],
    ["Can't handle non-regular mapping on 1001's map 7f0000000000", 'device'],
    ["Can't dump nested net namespace for 1002", 'container'],
    ['Unseizable non-zombie 1008 found, state D, err -1/4', 'vfork'],
  ])('%s has a remedy', (error, remedy) => {
    expect(remedyFor(error)).toContain(remedy)
  })
})
