import type { BlockerKind, Obstacle } from './obstacles.ts'

/**
 * What CRIU 4.2 refuses to dump, or dumps and cannot restore on another node, and /proc foretells: a table of rules over facts
 * that linux/payload-facts.ts gathers. docs/reference/blockers.md says where each comes from.
 */

/** One open descriptor that has no path. */
export interface Descriptor {
  readonly fd: number
  /** What /proc/PID/fd says, such as `pipe:[12]` or `anon_inode:[eventfd]`. */
  readonly link: string
  /** Text of /proc/PID/fdinfo; empty where no rule needs it. */
  readonly fdinfo: string
  /** Name of a socket's protocol, such as `TCPv6` or `UNIX-STREAM`; undefined for what is no socket. */
  readonly protocol: string | undefined
}

/** Program of a process as the kernel has it now. */
export interface Program {
  readonly path: string
  readonly mode: number
  /** Its content is in the image, its mode as well. */
  readonly deleted: boolean
}

export interface NamedFile {
  /** Missing for mapped files and the working directory. */
  readonly fd: number | undefined
  readonly path: string
  readonly deleted: boolean
  readonly mountId: number | undefined
}

/** What is looked at in one process. PIDs are the sandbox's. */
export interface ProcessFacts {
  readonly pid: number
  readonly parent: number
  readonly comm: string
  /** As in /proc/PID/stat: R, S, D, T, Z ... */
  readonly state: string
  readonly threads: number
  /** Real, effective, saved and file system's. Other groups are no matter: CRIU saves them (plugins/spank/criu/criu_limits.c). */
  readonly uids: readonly number[]
  /** Links of /proc/PID/ns by name. */
  readonly namespaces: Readonly<Record<string, string>>
  readonly descriptors: readonly Descriptor[]
  readonly files: readonly NamedFile[]
  /** Highest descriptor; -1 without any. */
  readonly highestFd: number
  readonly program: Program | undefined
  /** A thread of it stands in vfork until the child has called exec. */
  readonly waitsInVfork: boolean
  /** Bytes of address space in use, and RLIMIT_AS; infinite without limit. */
  readonly addressSpace: { readonly used: number; readonly limit: number }
}

/** What is the same for all processes of a sandbox. */
export interface Surroundings {
  readonly rootPid: number
  /** The job's owner. */
  readonly uid: number
  /** Descriptors that CRIU may have when it restores: the daemon's own RLIMIT_NOFILE. */
  readonly descriptorLimit: number
  /** Of the sandbox, by mount id. */
  readonly mounts: ReadonlyMap<number, { readonly type: string; readonly mountPoint: string }>
  /** Whether the guard of the member is stopped; it must answer during a save. */
  readonly guardStopped: boolean
  /** Of the job, for remedies. */
  readonly jobId: number
  /** Sockets that listen and have connections nobody has accepted: inode and address in words. */
  readonly listeners: readonly { readonly inode: string; readonly waiting: number; readonly address: string }[]
}

interface Found { readonly message: string; readonly remedy: string }
type Rule = (process: ProcessFacts, all: readonly ProcessFacts[], surroundings: Surroundings) => readonly Found[]

function when(condition: boolean, found: () => Found): readonly Found[] {
  return condition ? [found()] : []
}

function name(process: ProcessFacts): string {
  return `${process.comm} (PID ${process.pid} in the sandbox)`
}

/**
 * Address space that CRIU 4.2 maps into a process to dump it, bytes: its parasite with two stacks (128 KiB with two pages of
 * arguments suffice for a small program), and arguments of 16 bytes for each page (dump_pages_args_size in criu/mem.c), as many as the
 * largest process before it needed. A spare as large again for what the program maps meanwhile.
 * @param largest address space among the processes, bytes
 */
export function parasiteBytes(largest: number): number {
  return 256 * 1024 + Math.ceil(largest / 256 / 4096) * 4096
}

/** Descriptors of CRIU's own in each restored process: SERVICE_FD_MAX of criu/include/servicefd.h. They end at a multiple of 128, 16 are kept free. */
const serviceDescriptors = { count: 16, spare: 16, alignment: 128 }

/** Highest descriptor a process may have for CRIU to find room above it under a limit (choose_service_fd_base in criu/servicefd.c). */
export function highestRestorableFd(limit: number): number {
  const { count, spare, alignment } = serviceDescriptors
  return Math.floor(limit / alignment) * alignment - count - spare
}

/** Kernel objects without a path that CRIU saves. inotify, pidfds and the like have rules of their own. */
const savedObjects = new Set(['[eventfd]', '[eventpoll]', '[signalfd]', '[timerfd]', '[pidfd]', 'inotify', '[io_uring]'])

/** What an unsaved object is for, and how to do without. */
const unsavedObjects: readonly { readonly pattern: RegExp; readonly what: string; readonly remedy: string }[] = [
  { pattern: /userfaultfd/, what: 'userfaultfd', remedy: 'Switch off what handles page faults in the program (live migration, lazy loading, some garbage collectors), or close the descriptor before the job is saved.' },
  { pattern: /perf_event/, what: 'performance counters (perf_event_open)', remedy: 'Stop the profiler, or run the program without its counters (PAPI, perf), before the job is saved.' },
  { pattern: /fanotify/, what: 'fanotify', remedy: 'Use inotify instead, or close the descriptor before the job is saved.' },
  { pattern: /bpf/, what: 'a BPF object', remedy: 'Close the BPF maps and programs before the job is saved.' },
  { pattern: /seccomp/, what: 'a seccomp listener', remedy: 'End the program that supervises system calls (a container runtime or sandbox) before the job is saved.' },
  { pattern: /kvm/, what: 'a virtual machine (KVM)', remedy: 'Run the virtual machine without KVM, or end it before the job is saved.' },
]

const passedSockets = /^(UNIX|UNIX-STREAM|UNIX-SEQPACKET|TCP|TCPv6|UDP|UDPv6|UDP-Lite|UDPLITEv6|RAW|RAWv6|PING|PINGv6|PACKET|NETLINK)$/

const O_DIRECT = 0o40000
const O_EXCL = 0o200

function flagsOf({ fdinfo }: Descriptor): number {
  return parseInt(/^flags:\s+(\d+)/m.exec(fdinfo)?.[1] ?? '0', 8)
}

/** Inode of a socket or pipe; the others share one or have none in their link. */
function inodeOf(link: string): number | undefined {
  const inode = /^(?:socket|pipe):\[(\d+)\]$/.exec(link)?.[1]
  return inode === undefined ? undefined : Number(inode)
}

/** What an epoll descriptor watches: `tfd: 5 events: 19 data: 5 pos:0 ino:1f3a sdev:9`. */
function watchedBy({ fdinfo }: Descriptor): { readonly fd: number; readonly inode: number }[] {
  return [...fdinfo.matchAll(/^tfd:\s+(\d+) .*\bino:([\da-f]+)/gm)].map(([, fd, inode]) => ({ fd: Number(fd), inode: parseInt(inode ?? '', 16) }))
}

function isEpoll({ link }: Descriptor): boolean {
  return link === 'anon_inode:[eventpoll]'
}

/** Watched files that a process itself has no longer open. CRIU finds one under another number, too, as long as it is in the same process. */
function escaped(process: ProcessFacts, epoll: Descriptor): number[] {
  const inodes = new Set(process.descriptors.map(({ link }) => inodeOf(link)))
  const links = new Map(process.descriptors.map(({ fd, link }) => [fd, link]))
  const paths = new Set(process.files.map(({ fd }) => fd))
  return watchedBy(epoll).filter(({ fd, inode }) => {
    if (inodes.has(inode)) return false
    const link = links.get(fd)
    // What stands at the number now is another socket or pipe; files of other kinds cannot be told apart.
    return link === undefined ? !paths.has(fd) : inodeOf(link) !== undefined
  }).map(({ fd }) => fd)
}

function ancestorsOf(process: ProcessFacts, all: readonly ProcessFacts[]): ProcessFacts[] {
  const byPid = new Map(all.map((one) => [one.pid, one]))
  const ancestors: ProcessFacts[] = []
  for (let at = byPid.get(process.parent); at !== undefined && !ancestors.includes(at); at = byPid.get(at.parent)) ancestors.push(at)
  return ancestors
}

function watchList({ fdinfo }: Descriptor): string {
  return fdinfo.slice(Math.max(0, fdinfo.indexOf('tfd:')))
}

/** CRIU dumps a shared epoll where it meets it first: in a parent. What that has open need not be open in its children. */
function isDumpedByAncestor(process: ProcessFacts, epoll: Descriptor, all: readonly ProcessFacts[]): boolean {
  return ancestorsOf(process, all).some((ancestor) =>
    ancestor.descriptors.some((other) => isEpoll(other) && watchList(other) === watchList(epoll) && escaped(ancestor, other).length === 0))
}

/** Kernel files without a mount of the sandbox that CRIU knows by their name: memfd, shared memory, what secret memory has a rule for. */
const namedMemory = /^\/(memfd:|dev\/zero$|SYSV|secretmem$|anon_hugepage$)/

/** Hardware of the node; what is below /sys/devices/system and virtual is alike on all. */
const hardware = /^\/sys\/devices\/(?!system(\/|$)|virtual(\/|$))./

const rules: Readonly<Record<Exclude<BlockerKind, 'stopped-guard'>, Rule>> = {
  'namespace': (process, all, { rootPid }) => {
    const own = all.find(({ pid }) => pid === rootPid)?.namespaces ?? {}
    const other = Object.keys(process.namespaces).filter((kind) => kind !== 'user' && own[kind] !== undefined && own[kind] !== process.namespaces[kind])
    return when(other.length > 0, () => ({
      message: `${name(process)} runs in namespaces of its own (${other.join(', ')}), which cannot be saved`,
      remedy: 'Start the program without a container or unshare.',
    }))
  },
  'identity': (process, _all, { uid }) => {
    const others = process.uids.filter((one) => one !== uid)
    return when(others.length > 0, () => ({
      message: `${name(process)} runs as another user (uid ${[...new Set(others)].join(', ')}: a set-uid program), which cannot be saved`,
      remedy: 'Wait until it has ended, or run it outside the job.',
    }))
  },
  'ended-main-thread': (process) => when(process.state === 'Z' && process.threads > 1, () => ({
    message: `the main thread of ${name(process)} has ended while other threads run, which CRIU cannot save`,
    remedy: 'Let the main thread wait for the others (pthread_join) instead of calling pthread_exit.',
  })),
  'vfork': (process) => when(process.waitsInVfork, () => ({
    message: `${name(process)} waits in vfork for its child to start a program, and cannot be stopped meanwhile`,
    remedy: 'Save again when the child has started its program; use fork where the child runs on without exec.',
  })),
  'address-space': (process, all) => {
    const needed = parasiteBytes(Math.max(...all.map(({ addressSpace }) => addressSpace.used)))
    const left = Math.max(0, process.addressSpace.limit - process.addressSpace.used)
    return when(process.state !== 'Z' && left < needed, () => ({
      message: `${name(process)} has used up its address space (ulimit -v): ${Math.floor(left / 1024)} kB are left, CRIU needs ${needed / 1024} kB`,
      remedy: `Use a higher ulimit -v in the job script, or raise it now (prlimit --pid ${process.pid} --as=${process.addressSpace.used + needed}: from within the job), where the hard limit allows.`,
    }))
  },
  'descriptor-limit': (process, _all, { descriptorLimit }) => when(process.highestFd > highestRestorableFd(descriptorLimit), () => ({
    message: `${name(process)} has descriptor ${process.highestFd} open; CRIU may have ${descriptorLimit} here and needs room above the highest, so that ${highestRestorableFd(descriptorLimit)} is the highest that can be restored`,
    remedy: `Lower the job's limit before the program starts (ulimit -n ${Math.max(1, highestRestorableFd(descriptorLimit))}), or ask your admin for a higher LimitNOFILE of stintd.`,
  })),
  'not-executable': (process) => when(process.program !== undefined && !process.program.deleted && (process.program.mode & 0o111) === 0, () => ({
    message: `${process.program?.path ?? ''}, the program of ${name(process)}, is not executable any more: it could not be restored`,
    remedy: 'Make it executable again (chmod u+x).',
  })),
  'secret-memory': (process) => when(process.files.some(({ path, deleted }) => path === '/secretmem' && deleted), () => ({
    message: `${name(process)} has secret memory (memfd_secret), which nobody can read, CRIU included`,
    remedy: 'Switch off memfd_secret in the program, or release the memory before the job is saved.',
  })),
  'kernel-object': (process) => process.descriptors.flatMap(({ fd, link }) => {
    const kind = /^anon_inode:(.+)$/.exec(link)?.[1]
    if (kind === undefined || savedObjects.has(kind)) return []
    const known = unsavedObjects.find(({ pattern }) => pattern.test(kind))
    return [{
      message: `${name(process)} uses ${known?.what ?? `a kernel object (${kind})`} at descriptor ${fd}, which CRIU cannot save`,
      remedy: known?.remedy ?? 'Switch off in the program what uses it, or close it before the job is saved.',
    }]
  }),
  'packet-pipe': (process) => process.descriptors.filter((one) => one.link.startsWith('pipe:') && (flagsOf(one) & O_DIRECT) !== 0).slice(0, 1).map(({ fd }) => ({
    message: `${name(process)} has a packet pipe (pipe2 with O_DIRECT) at descriptor ${fd}, which CRIU cannot save`,
    remedy: 'Use a pipe without O_DIRECT, or a Unix socket of type SOCK_SEQPACKET.',
  })),
  'eventfd-semaphore': (process) => process.descriptors.filter(({ fdinfo }) => /^eventfd-semaphore:\s+1$/m.test(fdinfo)).slice(0, 1).map(({ fd }) => ({
    message: `${name(process)} has an eventfd that counts like a semaphore (EFD_SEMAPHORE) at descriptor ${fd}; CRIU would make it a plain one, from which one read takes the whole count`,
    remedy: 'Use a plain eventfd or a POSIX semaphore in shared memory, or close it before the job is saved.',
  })),
  'escaped-epoll': (process, all) => process.descriptors.filter((one) => isEpoll(one) && escaped(process, one).length > 0 && !isDumpedByAncestor(process, one, all)).map((epoll) => ({
    message: `${name(process)} has an epoll at descriptor ${epoll.fd} that watches a file it has not open any more (descriptor ${escaped(process, epoll).join(', ')}): another process has it`,
    remedy: 'Close the epoll in this process as well (an inherited one: right after fork), or remove what was closed from it (EPOLL_CTL_DEL).',
  })),
  'outside-process': (process, all) => process.descriptors.filter(({ link }) => link === 'anon_inode:[pidfd]' || link.startsWith('pidfd:')).flatMap((pidfd) => {
    const pid = Number(/^Pid:\s+(-?\d+)/m.exec(pidfd.fdinfo)?.[1] ?? -1)
    if ((flagsOf(pidfd) & O_EXCL) !== 0) {
      return [{ message: `${name(process)} has a pidfd of a thread at descriptor ${pidfd.fd}, which CRIU cannot save`, remedy: 'Use a pidfd of the process (without PIDFD_THREAD).' }]
    }
    return when(pid !== -1 && !all.some((one) => one.pid === pid), () => ({
      message: `${name(process)} has a pidfd of a process outside the job at descriptor ${pidfd.fd}`, remedy: 'Close it before the job is saved.',
    }))
  }),
  'mptcp': (process) => process.descriptors.filter(({ protocol }) => protocol?.startsWith('MPTCP') === true).slice(0, 1).map(({ fd }) => ({
    message: `${name(process)} uses multipath TCP at descriptor ${fd}, which CRIU cannot save`,
    remedy: 'Use plain TCP (Go: GODEBUG=multipathtcp=0).',
  })),
  'socket-kind': (process) => process.descriptors.filter(({ protocol }) => protocol !== undefined && protocol !== '' && !protocol.startsWith('MPTCP') && !passedSockets.test(protocol)).map(({ fd, protocol }) => ({
    message: `${name(process)} has a socket of kind ${protocol ?? ''} at descriptor ${fd}, which CRIU cannot save`,
    remedy: protocol === 'ALG' ? 'Switch off the kernel\'s cryptography (AF_ALG) in the program or its library.' : 'Close it before the job is saved, or use TCP, UDP or Unix sockets.',
  })),
  'unaccepted-connection': (process, all, { listeners }) => {
    const inodes = new Set(process.descriptors.map(({ link }) => String(inodeOf(link))))
    return listeners.filter(({ inode }) => inodes.has(inode) && !ancestorsOf(process, all).some((a) => a.descriptors.some(({ link }) => String(inodeOf(link)) === inode))).map(({ waiting, address }) => ({
      message: `${waiting} ${waiting === 1 ? 'connection waits' : 'connections wait'} at ${address} until ${name(process)} accepts ${waiting === 1 ? 'it' : 'them'}, which CRIU cannot save`,
      remedy: 'Save again when it has accepted them. A server that is busy for long should accept in a thread of its own.',
    }))
  },
  'outside-file': (process, _all, { mounts }) => process.files.flatMap(({ fd, path, mountId }) => {
    if (mountId === undefined || mounts.has(mountId) || namedMemory.test(path)) return []
    if (fd === 1 || fd === 2) {
      return [{
        message: `${path}, where ${name(process)} writes its standard ${fd === 1 ? 'output' : 'error'}, is on this node only and not in the job's sandbox`,
        remedy: 'Submit with --output and --error on the shared file system, not below /tmp or /dev/shm.',
      }]
    }
    return [{
      message: `${name(process)} has ${path} open at descriptor ${fd ?? '?'}, which is on no file system of the job's sandbox: a POSIX message queue (mq_open), or a file from outside`,
      remedy: 'Close it before the job is saved; for message queues use System V queues (msgget) instead.',
    }]
  }),
  'cgroup-file': (process, _all, { mounts }) => process.files.flatMap((file) => {
    const mount = file.mountId === undefined ? undefined : mounts.get(file.mountId)
    if (mount?.type !== 'cgroup' && mount?.type !== 'cgroup2') return []
    // What is right below the hierarchy's root is there on every node.
    const depth = file.path.slice(mount.mountPoint.length).split('/').filter((part) => part !== '').length
    return when(depth > 1, () => ({
      message: `${name(process)} has ${file.path} open, whose path names this node's share of the job`,
      remedy: 'Open files of the job\'s cgroup only while they are read, and close them.',
    }))
  }),
  'hardware-file': (process) => process.files.filter(({ fd, path }) => fd !== undefined && hardware.test(path)).map(({ path }) => ({
    message: `${name(process)} has ${path} open, which belongs to this node's hardware and may be missing on another`,
    remedy: 'Open it only while it is read (energy and temperature counters: each time), and close it.',
  })),
}

/** Kinds that may be over in a moment: a save looks again before it is refused. */
const passing: ReadonlySet<Obstacle['kind']> = new Set<BlockerKind>(['vfork', 'unaccepted-connection'])

/** Whether a save may find nothing in its way a moment later. */
export function mayPass(obstacles: readonly Obstacle[]): boolean {
  return obstacles.length > 0 && obstacles.every(({ kind }) => passing.has(kind))
}

/** What of the table stands in the way of a checkpoint. @param processes the payload's, its root included */
export function blockersOf(processes: readonly ProcessFacts[], surroundings: Surroundings): Obstacle[] {
  const found = (Object.entries(rules) as [keyof typeof rules, Rule][]).flatMap(([kind, rule]) =>
    processes.flatMap((process) => rule(process, processes, surroundings).map((one) => ({ kind, ...one }))))
  if (!surroundings.guardStopped) return found
  const { jobId } = surroundings
  return [...found, {
    kind: 'stopped-guard', message: `the batch step's first process is stopped (scancel --batch --signal=STOP ${jobId}); it must answer while the job is saved`,
    remedy: `Let it go on: scancel --batch --signal=CONT ${jobId}.`,
  }]
}
