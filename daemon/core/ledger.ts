import { Type, type Static } from 'typebox'
import { Value } from 'typebox/value'
import { StintError } from './errors.ts'
import { attributeKinds, type AttributeName } from './fidelity.ts'
import type { Obstacle } from './obstacles.ts'

/**
 * What the kernel knows of a payload and CRIU does not restore: recorded at the freeze, put back before the first instruction,
 * compared. The kinds are data here; `stint-init ledger` (plugins/spank/ledger/ledger.c) has the hands, member/ledger.ts the course.
 */

interface SocketOption {
  readonly name: string
  readonly level: number
  readonly number: number
  /** Of the value, bytes; default an int. */
  readonly length?: number
  /**
   * How it is put back (plugins/spank/ledger/ledger_sockets.c): `i`, `n` a device's index, in the host's or the network's byte order; `d` not of streams; `u` only
   * while not connected; `l` only while listening; `c` never, but compared. Here: `q`, the kernel may change it by itself, so a
   * difference is told to nobody.
   */
  readonly flags?: string
}

const levels = { socket: 1, ip: 0, tcp: 6, udp: 17, ipv6: 41, netlink: 270 } as const

function ofLevel(level: number, options: Readonly<Record<string, number | readonly [number, Partial<Pick<SocketOption, 'length' | 'flags'>>]>>): SocketOption[] {
  return Object.entries(options).map(([name, at]) => (typeof at === 'number' ? { name, level, number: at } : { name, level, number: at[0], ...at[1] }))
}

/**
 * Options that CRIU 4.2 leaves at their defaults, by the numbers of x86-64 and arm64 (asm-generic/socket.h, linux/in.h, in6.h, tcp.h,
 * udp.h, netlink.h). Some that it restores in part stand here, too: what is equal is left alone. Not here: buffer sizes, reuse of
 * addresses, devices, filters and timeouts, which CRIU restores, and what cannot be read (TCP_MD5SIG, IP_MULTICAST_IF by index).
 */
export const socketOptions: readonly SocketOption[] = [
  ...ofLevel(levels.socket, {
    SO_DONTROUTE: 5, SO_OOBINLINE: 10, SO_NO_CHECK: 11, SO_PRIORITY: 12, SO_PASSCRED: 16, SO_PEERCRED: [17, { length: 12, flags: 'c' }], SO_RCVLOWAT: 18, SO_TIMESTAMP_OLD: 29,
    SO_PASSSEC: 34, SO_TIMESTAMPNS_OLD: 35, SO_MARK: 36, SO_TIMESTAMPING_OLD: [37, { length: 8 }], SO_RXQ_OVFL: 40, SO_WIFI_STATUS: 41, SO_PEEK_OFF: 42, SO_NOFCS: 43,
    SO_SELECT_ERR_QUEUE: 45, SO_BUSY_POLL: 46, SO_MAX_PACING_RATE: [47, { length: 8 }], SO_INCOMING_CPU: [49, { flags: 'lq' }], SO_ZEROCOPY: 60, SO_TXTIME: [61, { length: 8 }],
    SO_TIMESTAMP_NEW: 63, SO_TIMESTAMPNS_NEW: 64, SO_TIMESTAMPING_NEW: [65, { length: 8 }], SO_PREFER_BUSY_POLL: 69, SO_BUSY_POLL_BUDGET: 70, SO_RESERVE_MEM: 73,
    SO_TXREHASH: [74, { flags: 'q' }], SO_RCVMARK: 75, SO_PASSPIDFD: 76, SO_RCVPRIORITY: 82, SO_PASSRIGHTS: 83,
  }),
  ...ofLevel(levels.ip, {
    IP_TOS: 1, IP_TTL: 2, IP_HDRINCL: 3, IP_OPTIONS: [4, { length: 40 }], IP_RECVOPTS: 6, IP_RETOPTS: 7, IP_PKTINFO: 8, IP_MTU_DISCOVER: 10, IP_RECVERR: 11, IP_RECVTTL: 12,
    IP_RECVTOS: 13, IP_FREEBIND: 15, IP_PASSSEC: 18, IP_TRANSPARENT: 19, IP_RECVORIGDSTADDR: 20, IP_MINTTL: 21, IP_NODEFRAG: 22, IP_CHECKSUM: 23, IP_BIND_ADDRESS_NO_PORT: 24,
    IP_RECVFRAGSIZE: 25, IP_RECVERR_RFC4884: 26, IP_MULTICAST_IF: [32, { flags: 'd' }], IP_MULTICAST_TTL: [33, { flags: 'd' }], IP_MULTICAST_LOOP: [34, { flags: 'd' }], IP_MULTICAST_ALL: 49, IP_UNICAST_IF: [50, { flags: 'n' }],
    IP_LOCAL_PORT_RANGE: 51,
  }),
  ...ofLevel(levels.ipv6, {
    IPV6_2292PKTINFO: 2, IPV6_2292HOPOPTS: 3, IPV6_2292DSTOPTS: 4, IPV6_2292RTHDR: 5, IPV6_CHECKSUM: 7, IPV6_2292HOPLIMIT: 8, IPV6_FLOWINFO: 11, IPV6_UNICAST_HOPS: 16,
    IPV6_MULTICAST_IF: [17, { flags: 'id' }], IPV6_MULTICAST_HOPS: [18, { flags: 'd' }], IPV6_MULTICAST_LOOP: [19, { flags: 'd' }], IPV6_MTU_DISCOVER: 23, IPV6_RECVERR: 25, IPV6_V6ONLY: [26, { flags: 'u' }], IPV6_MULTICAST_ALL: 29,
    IPV6_RECVERR_RFC4884: 31, IPV6_FLOWINFO_SEND: 33, IPV6_RECVPKTINFO: 49, IPV6_RECVHOPLIMIT: 51, IPV6_RECVHOPOPTS: 53, IPV6_RECVRTHDR: 56, IPV6_RECVDSTOPTS: 58, IPV6_RECVPATHMTU: 60,
    IPV6_DONTFRAG: 62, IPV6_RECVTCLASS: 66, IPV6_TCLASS: 67, IPV6_AUTOFLOWLABEL: 70, IPV6_ADDR_PREFERENCES: 72, IPV6_MINHOPCOUNT: 73, IPV6_RECVORIGDSTADDR: 74, IPV6_TRANSPARENT: 75,
    IPV6_UNICAST_IF: [76, { flags: 'n' }], IPV6_RECVFRAGSIZE: 77, IPV6_FREEBIND: 78,
  }),
  ...ofLevel(levels.tcp, {
    TCP_NODELAY: 1, TCP_MAXSEG: [2, { flags: 'u' }], TCP_CORK: 3, TCP_KEEPIDLE: 4, TCP_KEEPINTVL: 5, TCP_KEEPCNT: 6, TCP_SYNCNT: 7, TCP_LINGER2: 8, TCP_DEFER_ACCEPT: 9,
    TCP_WINDOW_CLAMP: [10, { flags: 'q' }], TCP_QUICKACK: [12, { flags: 'q' }], TCP_CONGESTION: [13, { length: 16 }], TCP_THIN_LINEAR_TIMEOUTS: 16, TCP_USER_TIMEOUT: 18, TCP_FASTOPEN: [23, { flags: 'u' }],
    TCP_NOTSENT_LOWAT: 25, TCP_SAVE_SYN: 27, TCP_FASTOPEN_CONNECT: [30, { flags: 'u' }], TCP_FASTOPEN_NO_COOKIE: [34, { flags: 'u' }], TCP_INQ: 36, TCP_TX_DELAY: 37, TCP_RTO_MAX_MS: 44,
    TCP_RTO_MIN_US: 45, TCP_DELACK_MAX_US: 46,
  }),
  ...ofLevel(levels.udp, { UDP_CORK: 1, UDP_ENCAP: 100, UDP_NO_CHECK6_TX: 101, UDP_NO_CHECK6_RX: 102, UDP_SEGMENT: 103, UDP_GRO: 104 }),
  ...ofLevel(levels.netlink, {
    NETLINK_PKTINFO: 3, NETLINK_BROADCAST_ERROR: 4, NETLINK_NO_ENOBUFS: 5, NETLINK_LISTEN_ALL_NSID: 8, NETLINK_CAP_ACK: 10, NETLINK_EXT_ACK: 11, NETLINK_GET_STRICT_CHK: 12,
  }),
]

/** By the sandbox's own PIDs. */
const LedgerSchema = Type.Object({
  version: Type.Literal(1),
  /** CPUs that Slurm gave the step at the freeze; empty when unknown. */
  stepCpus: Type.Array(Type.Integer()),
  /** CPUs of threads: most share one set. */
  affinities: Type.Array(Type.Object({ cpus: Type.Array(Type.Integer()), threads: Type.Array(Type.Object({ pid: Type.Integer(), tid: Type.Integer() })) })),
  /** Options that a fresh socket has not: hexadecimal values by name, a device's index as @NAME. */
  sockets: Type.Array(Type.Object({ pid: Type.Integer(), fd: Type.Integer(), options: Type.Record(Type.String(), Type.String()) })),
  /** Multicast groups and timers set to a time of day: the words of the helper's answers, which put them back. */
  groups: Type.Array(Type.String()),
  timers: Type.Array(Type.String()),
  /** Attributes of threads and processes: NAME ID VALUE. Missing in images of a Stint before it. */
  attributes: Type.Optional(Type.Array(Type.String())),
  /** What CRIU drops and nothing puts back, in words for the job's owner. */
  lost: Type.Optional(Type.Array(Type.String())),
})
export type Ledger = Static<typeof LedgerSchema>

/** @throws StintError E_IMAGE_DAMAGED */
export function parseLedger(text: string): Ledger {
  try {
    const value: unknown = JSON.parse(text)
    if (Value.Check(LedgerSchema, value)) return value
  } catch (cause) {
    throw new StintError('E_IMAGE_DAMAGED', 'the ledger is no JSON', { cause })
  }
  throw new StintError('E_IMAGE_DAMAGED', 'the ledger lacks fields or is of another version')
}

/** More than any kernel counts (CONFIG_NR_CPUS is 8192 at most). */
const mostCpus = 65_536

/** A list as in /proc/PID/status: `0-3,8`. What is none of a kernel's is left out. */
export function parseCpuList(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part.trim())
    if (match === null) return []
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])]
    return to < mostCpus ? Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => from + at) : []
  })
}

/** CPU numbers of a mask in hexadecimal, the byte of CPUs 0 to 7 first. */
export function parseCpuMask(hex: string): number[] {
  return (hex.match(/../g) ?? []).flatMap((byte, at) => [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (parseInt(byte, 16) & (1 << bit)) !== 0).map((bit) => at * 8 + bit))
}

export function formatCpuMask(cpus: readonly number[]): string {
  const bytes = Buffer.alloc(Math.floor(Math.max(0, ...cpus) / 8 / 8 + 1) * 8) // The kernel wants whole words.
  for (const cpu of cpus) bytes[Math.floor(cpu / 8)] = (bytes[Math.floor(cpu / 8)] ?? 0) | (1 << (cpu % 8))
  return bytes.toString('hex')
}

/**
 * A thread's CPUs in a new allocation: the same places among those of the step. A thread that was allowed all of the step's is
 * allowed all again. Where the step has fewer now, places beyond its end begin anew.
 * @param before and @param now CPUs of the step, ascending
 * @returns no CPUs when none of the thread's were the step's: it stays as it is restored
 */
export function mapCpus(cpus: readonly number[], before: readonly number[], now: readonly number[]): { cpus: number[]; tooFew: boolean } {
  if (now.length === 0) return { cpus: [], tooFew: false }
  const own = new Set(cpus)
  if (before.every((cpu) => own.has(cpu))) return { cpus: before.length === 0 ? [] : [...now], tooFew: false }
  const places = before.flatMap((cpu, place) => (own.has(cpu) ? [place] : []))
  const mapped = new Set(places.flatMap((place) => now[place % now.length] ?? []))
  return { cpus: [...mapped].sort((a, b) => a - b), tooFew: places.some((place) => place >= now.length) }
}

/** What the helper is told first: its indices are the places in `socketOptions`. */
const optionLines = socketOptions.map(({ level, number, length = 4, flags = '-' }) => `option ${level} ${number} ${length} ${flags}`)

/** Input of `ledger record`. */
export function recordInput(pids: readonly number[]): string {
  return [...optionLines, ...pids.map((pid) => `process ${pid}`), ''].join('\n')
}

function optionName(index: string | undefined): string | undefined {
  return socketOptions[Number(index)]?.name
}

/** @throws StintError E_COMMAND_FAILED when the answers are cut off */
export function answersOf(stdout: string): string[] {
  const lines = stdout.trimEnd().split('\n')
  if (lines.pop() !== 'done') throw new StintError('E_COMMAND_FAILED', 'stint-init ledger did not come to its end')
  return lines
}

/** @param words PID FD and, of `unread`, what waits */
function lostInWords(verb: 'unread' | 'watch-flags', [pid = '?', fd = '?', what]: readonly string[]): string {
  const where = `descriptor ${fd} of PID ${pid}`
  if (verb === 'watch-flags') return `${where}: inotify watches lost their IN_ONESHOT or IN_EXCL_UNLINK, so the program may be told of a file more often than it asked for; it can add the watches again`
  if (what === 'inotify') return `${where}: inotify events that had not been read are lost; a program that waits for one of them should look at its files again`
  return `${where}: datagrams that had arrived and not been read are lost, as on a network; a program that waits for one of them needs it sent again`
}

/** What `ledger record` answered. @param stepCpus CPUs of the step now */
export function readRecord(stdout: string, stepCpus: readonly number[]): Ledger {
  const threads: { readonly mask: string; readonly pid: number; readonly tid: number }[] = []
  const [attributes, lost] = [[] as string[], [] as string[]]
  const ledger: Ledger = { version: 1, stepCpus: [...stepCpus], affinities: [], sockets: [], groups: [], timers: [], attributes, lost }
  for (const line of answersOf(stdout)) {
    const [verb, ...words] = line.split(' ')
    const [pid, second] = words.map(Number)
    if (verb === 'group') ledger.groups.push(words.join(' '))
    else if (verb === 'timer') ledger.timers.push(words.join(' '))
    else if (verb === 'attribute') attributes.push(words.join(' '))
    else if (verb === 'unread' || verb === 'watch-flags') lost.push(lostInWords(verb, words))
    else if (verb === 'thread') threads.push({ mask: words[2] ?? '', pid: pid ?? 0, tid: second ?? 0 })
    else if (verb === 'socket') {
      const options = words.slice(2).flatMap((word) => {
        const [index, value] = word.split('=')
        const name = optionName(index)
        return name === undefined || value === undefined ? [] : [[name, value] as const]
      })
      ledger.sockets.push({ pid: pid ?? 0, fd: second ?? 0, options: Object.fromEntries(options) })
    }
  }
  ledger.affinities = [...Map.groupBy(threads, ({ mask }) => mask)].map(([mask, same]) => ({ cpus: parseCpuMask(mask), threads: same.map(({ pid, tid }) => ({ pid, tid })) }))
  return ledger
}

/** Input of `ledger put`, and what cannot be as it was. @param stepCpus CPUs of the step in the new allocation */
export function putInput(ledger: Ledger, stepCpus: readonly number[]): { input: string; notices: string[] } {
  const indices = new Map(socketOptions.map(({ name }, at) => [name, at]))
  const notices = [...(ledger.lost ?? [])]
  const affinities = ledger.affinities.flatMap(({ cpus, threads }) => {
    const mapped = mapCpus(cpus, ledger.stepCpus, stepCpus)
    if (mapped.tooFew) {
      const pids = [...new Set(threads.map(({ pid }) => pid))].join(', ')
      notices.push(`threads of PID ${pids} were bound to CPUs ${cpus.join(',')} of ${ledger.stepCpus.length}; the job has ${stepCpus.length} now, so bound threads share CPUs (now ${mapped.cpus.join(',')})`)
    }
    return mapped.cpus.length === 0 ? [] : threads.map(({ tid }) => `affinity ${tid} ${formatCpuMask(mapped.cpus)}`)
  })
  const sockets = ledger.sockets.map(({ pid, fd, options }) => {
    const values = Object.entries(options).flatMap(([name, value]) => (indices.has(name) ? [`${indices.get(name) ?? 0}=${value}`] : []))
    return `socket ${pid} ${fd} ${values.join(' ')}`
  })
  const lines = [...optionLines, ...affinities, ...sockets, ...ledger.groups.map((words) => `group ${words}`), ...ledger.timers.map((words) => `timer ${words}`), ...(ledger.attributes ?? []).map((words) => `attribute ${words}`), '']
  return { input: lines.join('\n'), notices }
}

/** uid and gid of a SO_PEERCRED value. */
function credentials(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  return bytes.length === 12 ? `PID ${bytes.readInt32LE(0)}, uid ${bytes.readInt32LE(4)}, gid ${bytes.readInt32LE(8)}` : 'nothing'
}

function failedOption(words: readonly string[], ledger: Ledger): string | undefined {
  const [pid, fd, index, wanted = '', is = '', ...why] = words
  const option = socketOptions[Number(index)]
  if (option === undefined || option.flags?.includes('q') === true || ledger.sockets.length === 0) return undefined
  if (option.name === 'SO_PEERCRED') return `descriptor ${fd} of PID ${pid}: SO_PEERCRED says ${credentials(is)}; it was ${credentials(wanted)}`
  return `descriptor ${fd} of PID ${pid}: ${option.name} was ${wanted} and is ${is === '' ? 'not there' : is} (${why.join(' ')})`
}

/** @param words NAME ID WANTED IS */
function failedAttribute([name = '', id, wanted, is]: readonly string[]): string {
  const { of, says, means } = attributeKinds[name as AttributeName]
  return `${says} of ${of} ${id ?? '?'} was ${wanted ?? '?'} and is ${is ?? '?'}: ${means}`
}

/** What `ledger put` could not put back, in words for the job's owner. */
export function readFailures(stdout: string, ledger: Ledger): string[] {
  return answersOf(stdout).flatMap((line): string[] => {
    const [, verb, ...words] = line.split(' ')
    switch (verb) {
      case 'affinity': return [`thread ${words[0] ?? '?'} could not be bound to its CPUs again (${words.slice(1).join(' ')})`]
      case 'socket': {
        if (words[2] === 'gone') return [`descriptor ${words[1] ?? '?'} of PID ${words[0] ?? '?'}: options of the socket could not be set again (${words.slice(3).join(' ')})`]
        return [failedOption(words, ledger)].filter((text) => text !== undefined)
      }
      case 'group': return [`descriptor ${words[1] ?? '?'} of PID ${words[0] ?? '?'}: the multicast group could not be joined again (${words.slice(2).join(' ')})`]
      case 'attribute': return [failedAttribute(words)]
      case 'timer': return [`descriptor ${words[1] ?? '?'} of PID ${words[0] ?? '?'}: the timer fires late, by as long as the job was away (${words.slice(2).join(' ')})`]
      default: return []
    }
  })
}

/** Threads that do not share all with their process, as `ledger look` answered. @param names of processes by PID */
export function threadObstacles(stdout: string, names: ReadonlyMap<number, string>): Obstacle[] {
  const what = {
    'own-fs': 'has a working directory, root or umask of its own (unshare(CLONE_FS)), which would become the process\'s',
    'own-files': 'has descriptors of its own (unshare(CLONE_FILES)), which would be lost',
  } as const
  return answersOf(stdout).flatMap((line): Obstacle[] => {
    const [kind, pid, tid] = line.split(' ')
    if (kind !== 'own-fs' && kind !== 'own-files') return []
    return [{
      kind, message: `thread ${tid ?? '?'} of ${names.get(Number(pid)) ?? 'a process'} (PID ${pid ?? '?'} in the sandbox) ${what[kind]}`,
      remedy: kind === 'own-fs' ? 'Use openat() and the like instead of unshare(CLONE_FS), or a process in place of the thread.' : 'Let the thread share the descriptors, or use a process in place of it.',
    }]
  })
}

/** Mitigations that a thread switches on for itself (PR_SET_SPECULATION_CTRL), in /proc/PID/status, and how that says so. */
const mitigations = [
  { line: 'Speculation_Store_Bypass', on: /^thread (?:force )?mitigated$/, says: 'speculative store bypass' },
  { line: 'SpeculationIndirectBranch', on: /^conditional (?:force )?disabled$/, says: 'indirect branch speculation' },
] as const

/**
 * A process that is better protected than the payload's root would be as badly after a move. Kernels before 5.16 give the first mitigation to
 * everything with a seccomp filter, the root as well.
 * @param status and @param root fields of /proc/PID/status
 */
export function speculationObstacles(process: { readonly pid: number; readonly comm: string }, status: ReadonlyMap<string, string>, root: ReadonlyMap<string, string>): Obstacle[] {
  return mitigations.filter(({ line, on }) => on.test(status.get(line) ?? '') && !on.test(root.get(line) ?? '')).slice(0, 1).map(({ says }) => ({
    kind: 'speculation', message: `${process.comm} (PID ${process.pid} in the sandbox) has switched off ${says} for itself (PR_SET_SPECULATION_CTRL), and would lose that protection by a move`,
    remedy: 'Wait until it has ended, or start it without that sandbox (an option of the program).',
  }))
}
