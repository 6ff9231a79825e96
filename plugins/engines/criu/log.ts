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

interface Remedy {
  readonly pattern: RegExp
  readonly remedy: string
  /** It may be over in a moment: the same dump may succeed at once. */
  readonly passing?: true
}

/** The first that matches counts: the special before the general. */
const remedies: readonly Remedy[] = [
  {
    pattern: /Unable to interrupt task: \d+ \(No such process\)/,
    remedy: 'The job had already ended. Nothing is left to save.',
  },
  {
    pattern: /Timeout reached|Unseizable non-zombie \d+ found, state D/,
    remedy: 'A process of the job could not be stopped in time: a parent that waits in vfork for its child to start a program, or one that waits for a file system that does not answer. Save again when that is over.',
  },
  {
    pattern: /Zombies with threads are not supported|Zombie thread not supported/,
    remedy: 'The main thread of a process has ended while others run. Let it wait for them (pthread_join) instead of calling pthread_exit.',
  },
  {
    pattern: /Individually stopped threads/,
    remedy: 'Some threads of a process are stopped, others not: a debugger has left them so. Let them go on (kill -CONT), then save again.',
  },
  {
    pattern: /remote mmap\(\) failed: Cannot allocate memory|No suitable VM found/,
    remedy: 'A process has used up its address space (ulimit -v). Use a higher limit in the job script.',
  },
  {
    pattern: /In-flight connection|Non-empty write queue on an in-flight socket|Dangling connection/,
    remedy: 'A server of the job has a connection that it has not accepted yet. Save again when it has; a server that is busy for long should accept in a thread of its own.',
    passing: true,
  },
  {
    pattern: /Dump eventpoll|Escaped\/closed fd descriptor/,
    remedy: 'A process has an epoll that watches a file only another process still has open. Close an inherited epoll right after fork, or remove what is closed from it (EPOLL_CTL_DEL).',
  },
  {
    pattern: /packetized mode for pipes/,
    remedy: 'The job uses a packet pipe (pipe2 with O_DIRECT). Use a pipe without O_DIRECT, or a Unix socket of type SOCK_SEQPACKET.',
  },
  {
    pattern: /\/secretmem/,
    remedy: 'The job uses secret memory (memfd_secret), which nobody can read, CRIU included. Switch it off in the program.',
  },
  {
    pattern: /Unsupported proto \d+ for socket|multipathtcp/,
    remedy: 'The job uses a protocol that cannot be saved; 262 is multipath TCP (Go: GODEBUG=multipathtcp=0). Use plain TCP or UDP.',
  },
  {
    pattern: /Unknown socket collected|Sockets \(family \d+ proto \d+\) are not collected|Unsupported socket family|Unsupported type \(\d+\) on socket/,
    remedy: 'The job has a socket of a kind that cannot be saved (AF_ALG, AF_VSOCK and the like). Close it, or use TCP, UDP or Unix sockets.',
  },
  {
    pattern: /pidfd pid -?\d+ is not a part of process tree|PIDFD_THREAD/,
    remedy: 'The job has a pidfd of a thread, or of a process outside the job. Close it before the job is saved.',
  },
  {
    pattern: /Can't handle non-regular mapping|Unsupported mapping found|uprobes vma/,
    remedy: 'The job has memory of a device mapped, or is being probed (uprobes). Close the device or end the probe before the job is saved; for MPI choose TCP and shared memory (UCX_TLS=tcp,self,sysv,posix, FI_PROVIDER=tcp).',
  },
  {
    pattern: /Can't dump nested (?!user )\w+ namespace|Can't make (?!user)\w+ns id|No NS ID with kid/,
    remedy: 'The job runs a program in namespaces of its own (a container, unshare). Start it without.',
  },
  {
    pattern: /corked dgram socket/,
    remedy: 'A process was just putting together a datagram. Save again a moment later.',
    passing: true,
  },
  {
    pattern: /Control messages in queue|Unexpected 2nd SCM_RIGHTS|More than 1 SCM/,
    remedy: 'A process was just passing open files over a Unix socket. Save again a moment later.',
    passing: true,
  },
  {
    pattern: /Open files on overmounted mounts/,
    remedy: 'The job holds a file of a file system that another one is mounted over. Close it before the job is saved.',
  },
  {
    pattern: /Some file locks are hold by dumping tasks/,
    remedy: 'A lock of the job cannot be saved. Give it up before the job is saved.',
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
    remedy: 'The job holds a file of a file system that is not in its sandbox: --output or --error on a node\'s own disk (put them on the shared file system), or a POSIX message queue (mq_open; use System V queues instead).',
  },
  {
    pattern: /External socket is used/,
    remedy: 'The job is connected to a program outside of it by a Unix socket (system daemon, ssh-agent, X11, session bus). Close the connection, or start that program inside the job.',
  },
  {
    pattern: /netlink: The socket has data to read/,
    remedy: 'A process was just asking the kernel about the network. Save again a moment later.',
    passing: true,
  },
  {
    pattern: /Can't get rlimit/,
    remedy: 'CRIU could not read the limits of a process with another identity. `stint doctor` says whether criu-shim.so, which lets it, is in force; tell your administrator.',
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
    pattern: /Can't chose service_fd_base/,
    remedy: 'A process has a descriptor open too near to the limit that CRIU has on this node. An administrator can set a higher LimitNOFILE for stintd, then `scontrol release JOB`.',
  },
  {
    pattern: /PR_SET_MM_MAP failed with -13/,
    remedy: 'The program\'s file is not executable any more, or is on a file system mounted noexec. Make it executable again (chmod u+x), then `scontrol release JOB`.',
  },
  {
    pattern: /libnet_open_raw4/,
    remedy: 'CRIU lacks the capability net_raw, which connections that one side has closed need. Tell your administrator: docs/reference/capabilities.md.',
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
    pattern: /(Can't (open file|create (node|ghost|dir)|make ghost|bind id|link |change working|access )|Unable to (change|set perms)).*: (Permission denied|Operation not permitted)$/,
    remedy: 'Stint opens and makes files as you, and you may not do that with a file the job had: its directory, its owner or its mode have changed, or a group of yours is gone. Put the rights back, then `scontrol release JOB`.',
  },
  {
    pattern: /Too many levels of symbolic links/,
    remedy: 'A symbolic link stands where the job had a file or a directory. Links on a path are not followed: put back what was there, then `scontrol release JOB`.',
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

/** Whether the same dump may succeed a moment later. */
export function isPassing(errorLine: string): boolean {
  return remedies.find(({ pattern }) => pattern.test(errorLine))?.passing === true
}

/** What CRIU was at when it met its first error: the last process and descriptor that it named before. */
function circumstancesOf(logText: string, error: string): string {
  const before = logText.slice(0, Math.max(0, logText.indexOf(error)))
  const [, pid, comm] = [...before.matchAll(/Dumping task \(pid: (\d+) comm: (.*)\)/g)].at(-1) ?? []
  if (pid === undefined) return ''
  const [, fd] = [...before.slice(before.lastIndexOf('Dumping task (')).matchAll(/^(?:\(\d+\.\d+\) )?\d+ fdinfo (\d+):/gm)].at(-1) ?? []
  return `CRIU was saving ${comm ?? ''} (PID ${pid} in the sandbox)${fd === undefined ? '' : `, descriptor ${fd}`}. `
}

/** For an error that nobody has met before: what is known, and how it gets known. @param log where the log is kept */
export function unknownError(logText: string, error: string, log: string): string {
  return `${circumstancesOf(logText, error)}Stint does not know this error yet: please report it with ${log} to your administrator, who has \`stint status JOB\` for what the job did before.`
}
