/**
 * What a CRIU log says, in the words of the job's owner. The patterns are from CRIU 4.2.1; recorded logs of each are in
 * tests/fixtures/criu-logs. https://github.com/checkpoint-restore/criu
 */

/** Lines CRIU marks as errors also when all goes well. */
const harmless = [
  /RLIMIT_NOFILE for self/, // Root without CAP_SYS_RESOURCE.
  /tun: Unable to create tun/, // No /dev/net/tun: asked for whether or not a task has one.
]

/** Errors that only say that another one happened before; kept for logs that have nothing better. */
const consequences = [
  /Unable to detach from \d+: No such process/,
  /Can't retrieve FDs from socket/,
  /(Dumping|Restoring|Pre-dumping) FAILED/,
  /Killing processes because of failure/,
]

/** The warning that explains an `Unable to detach`; harmless when it is about a task that has just ended. */
const interrupted = /Unable to interrupt task: \d+ \(/

const linePrefix = /^(?:\(\d+\.\d+\)\s*|pie:\s*(?:\d+:\s*)?|\d+:\s*)*/
const sourcePrefix = /^(?:Error|Warn)\s+\([^\s()]+:\d+\):\s*/

/** The message of a line marked as error (or as the one warning that matters), without time, process and source. */
function messageOf(line: string): string | undefined {
  const text = line.replace(linePrefix, '')
  const message = text.replace(sourcePrefix, '').trim()
  if (message === text.trim() || message === '') return undefined
  return text.startsWith('Error') || interrupted.test(message) ? message : undefined
}

/**
 * The error a CRIU log is about, without time stamp, process id and source position: the first one that is neither
 * harmless nor the mere consequence of another. Undefined when the log has none.
 */
export function firstError(logText: string): string | undefined {
  const messages = logText.split('\n').map(messageOf).filter((message) => message !== undefined)
  const errors = messages.filter((message) => !harmless.some((pattern) => pattern.test(message)))
  const causes = errors.filter((message) => !consequences.some((pattern) => pattern.test(message)))
  const real = errors.filter((message) => !interrupted.test(message))
  return real.length === 0 ? undefined : causes.find((message) => real.includes(message)) ?? causes[0] ?? errors[0]
}

interface Remedy { readonly pattern: RegExp; readonly remedy: string }

/** The first that matches counts: the special before the general. */
const remedies: readonly Remedy[] = [
  {
    pattern: /Unable to interrupt task: \d+ \(No such process\)/,
    remedy: 'The job had already ended. Nothing is left to save.',
  },
  {
    pattern: /Unseizable non-zombie/,
    remedy: 'A process of the job is being traced. End gdb, strace or the profiler in the job, then save again.',
  },
  {
    pattern: /nested user namespace|Can't make userns id/,
    remedy: 'The job runs a program in a user namespace (rootless container, bubblewrap, unshare -U, browser sandbox). Start it without.',
  },
  {
    pattern: /send_fds failed \(-22\)|io_uring/,
    remedy: 'The job uses io_uring, which cannot be saved. Turn it off in the program (Node.js: UV_USE_IO_URING=0).',
  },
  {
    pattern: /Can't dump file \d+ of that type \[\d+\] \(chr /,
    remedy: 'The job holds a device open (GPU, InfiniBand, FUSE or the like). Use TCP and shared memory for MPI (UCX_TLS=tcp,self,sysv,posix or FI_PROVIDER=tcp), or close the device before the job is saved.',
  },
  {
    pattern: /Can't dump file \d+ of that type .*anon_inode:/,
    remedy: 'The job uses a kernel facility that cannot be saved (the name in brackets says which). Turn it off in the program.',
  },
  {
    pattern: /Can't lookup mount=-?\d+ for fd=-?\d+ path=/,
    remedy: 'The job holds a file of a file system that is not in its sandbox: a POSIX message queue (mq_open), or a file opened before the sandbox was made. Close it, or use shared memory or System V queues instead.',
  },
  {
    pattern: /External socket is used/,
    remedy: 'The job is connected to a program outside of it by a Unix socket (system daemon, ssh-agent, X11, session bus). Close the connection, or start that program inside the job.',
  },
  {
    pattern: /netlink: The socket has data to read/,
    remedy: 'A process was just asking the kernel about the network. Save again a moment later.',
  },
  {
    pattern: /Can't get rlimit/,
    remedy: 'A process of the job runs under another identity (a set-uid or set-gid program). Save again when it has ended; an administrator may give stintd CAP_SYS_RESOURCE.',
  },
  {
    pattern: /Can't link remap to .*: File exists/,
    remedy: 'Files named link_remap.N from another saved job lie in the directory of this path. Let jobs run in directories of their own; remove the files if no checkpoint needs them.',
  },
  {
    pattern: /No space left on device|Disk quota exceeded/,
    remedy: 'The checkpoint store is full. Free space or remove old checkpoints (`stint images` shows who uses it), then save again.',
  },
  {
    pattern: /Read-only file system/,
    remedy: 'The checkpoint store is mounted read-only. Tell your administrator.',
  },
  {
    pattern: /suspending seccomp failed|Can't setns \d+\/ipc|TCP repair mode ON: Operation not permitted|Unable to interrupt task: \d+ \(Operation not permitted\)|-1 reported by netlink: Operation not permitted|Can't change root: Operation not permitted|Unable to set (a (monotonic|boottime) clock offset|real, effective and saved|SECURE_NO_SETUID_FIXUP)/,
    remedy: 'CRIU lacks a capability. Tell your administrator: stintd must run as root with the capabilities of docs/reference/capabilities.md.',
  },
  {
    pattern: /BUG at criu\/mem\.c|Tracking memory is not available/,
    remedy: 'This kernel cannot track changed memory (CONFIG_MEM_SOFT_DIRTY). Save without pre-dump.',
  },
  {
    pattern: /has bad size/,
    remedy: 'A file the job had open was changed after it was saved. Put the file back as it was (the message says the size), or restore an older checkpoint.',
  },
  {
    pattern: /has bad mode|bad build-id/i,
    remedy: 'A file the job had open was replaced after it was saved. Put it back as it was, or run on nodes with the same software.',
  },
  {
    pattern: /Can't open file .* on restore: No such file|Can't open file .*: No such file/,
    remedy: 'A file the job had open no longer exists here. Put it back, or keep it on a file system that all nodes share.',
  },
  {
    pattern: /Can't open file .*: Permission denied|Can't create ghost regfile: Permission denied/,
    remedy: 'Root may not open a file of the job: the file system keeps root out (NFS root_squash). Tell your administrator.',
  },
  {
    pattern: /Can't fork for \d+: File exists/,
    remedy: 'A process number of the job is still taken in its sandbox. stint tries again when the old process is gone.',
  },
  {
    pattern: /Can't bind inet socket/,
    remedy: 'The job listens on a network address that this node does not have. Use a private network (#SBATCH --stint without net=host), or bind to 127.0.0.1 or 0.0.0.0.',
  },
]

/** What the job's owner can do about an error; undefined for one that is not known. */
export function remedyFor(errorLine: string): string | undefined {
  return remedies.find(({ pattern }) => pattern.test(errorLine))?.remedy
}
