/**
 * The part of the ledger that nothing puts back: who the threads of a payload are and what they hold of files, by the kernel's word
 * at the freeze. An image comes out of memory that the user can write, and CRIU gives every task what the image says. So the image is
 * compared with this record before it is sealed and before a restore, and the restored tasks before their first instruction. The kinds
 * are data here; `stint-init ledger identities` (plugins/spank/ledger_identities.c) has the eyes, member/identities.ts the course.
 */

/** Words of a thread's line, in this order. Capability sets in hexadecimal, `dumpable` as the owner of /proc/PID: `user` or `root`. */
const threadFields = ['uids', 'gids', 'groups', 'inheritable', 'permitted', 'effective', 'bounding', 'ambient', 'noNewPrivs', 'seccomp', 'filters', 'dumpable'] as const
export type ThreadField = (typeof threadFields)[number]

export interface ThreadIdentity {
  readonly pid: number
  readonly tid: number
  /** As the kernel prints them, with commas; a dash where it prints nothing. */
  readonly values: Readonly<Record<ThreadField, string>>
}

/**
 * Where a file lives says what must be equal after a move. `kernel`: in no mount that the payload sees (pipes, sockets, memfd, System V
 * memory), or in one like /proc; made anew, by CRIU or the kernel. `own`: in what travels with the image, or deleted; made anew with its owner. `named`: everything else,
 * opened again by its name, on this or another node: devices and inodes differ between nodes, packages and put-back files have new
 * inodes, and a user may replace what is theirs; what must not happen is that it has changed hands.
 */
export type FileKind = 'kernel' | 'own' | 'named'

export interface HeldFile {
  readonly pid: number
  /** A descriptor's number, `map:START-END`, `cwd`, `root` or `exe`. */
  readonly slot: string
  /** MAJOR:MINOR of its file system, and the number of a device file. */
  readonly device: string
  readonly inode: string
  readonly uid: number
  readonly gid: number
  /** With its type. */
  readonly mode: number
  readonly kind: FileKind
  /** Its name is gone: CRIU may have copied it. */
  readonly deleted: boolean
  /** As the payload sees it, for people; encoded, since users name files. */
  readonly path: string
}

export interface Identities {
  /** Capabilities that a process of this node may have at all: its bounding set. */
  readonly nodeBounding: bigint
  readonly threads: readonly ThreadIdentity[]
  readonly files: readonly HeldFile[]
}

/** File systems that are the kernel's word on something: who owns a file there depends on the moment (/proc/PID: whether it is dumpable). */
const kernelFileSystems: ReadonlySet<string> = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2'])

/** Mount points whose content is the sandbox's own. */
const ownMounts: ReadonlySet<string> = new Set(['/tmp', '/dev/shm', '/dev/pts'])

function readThread(words: readonly string[]): ThreadIdentity {
  const [pid, tid, ...values] = words
  return { pid: Number(pid), tid: Number(tid), values: Object.fromEntries(threadFields.map((field, at) => [field, values[at] ?? '-'])) as Record<ThreadField, string> }
}

function readFile(words: readonly string[], mounts: ReadonlyMap<string, string>): HeldFile {
  const [pid, slot = '', device = '', inode = '', uid, gid, mode = '', links, mount = '', path = '?'] = words
  const point = mounts.get(mount)
  const kind = point === undefined ? 'kernel' : links === '0' || ownMounts.has(point) ? 'own' : 'named'
  return { pid: Number(pid), slot, device, inode, uid: Number(uid), gid: Number(gid), mode: parseInt(mode, 8), kind, deleted: links === '0' || path.endsWith('%20(deleted)'), path }
}

/** @param text what `stint-init ledger identities` printed; undefined where it is cut off or is none */
export function parseIdentities(text: string): Identities | undefined {
  const lines = text.trimEnd().split('\n')
  if (lines.pop() !== 'done') return undefined
  const [mounts, threads, files] = [new Map<string, string>(), [] as ThreadIdentity[], [] as HeldFile[]]
  let nodeBounding: bigint | undefined
  for (const line of lines) {
    const [verb, ...words] = line.split(' ')
    if (verb === 'identity') threads.push(readThread(words))
    else if (verb === 'file') files.push(readFile(words, mounts))
    else if (verb === 'mount' && !kernelFileSystems.has(words[1] ?? '')) mounts.set(words[0] ?? '', words[2] ?? '')
    else if (verb === 'node') nodeBounding = hexadecimal(words[0] ?? '')
  }
  return nodeBounding === undefined ? undefined : { nodeBounding, threads, files }
}

function hexadecimal(text: string): bigint | undefined {
  return /^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined
}

function sorted(list: string): string {
  return list.split(',').map(Number).toSorted((a, b) => a - b).join(',')
}

type Holds = (was: string, is: string, nodeBounding: bigint) => boolean
const equal: Holds = (was, is) => was === is

/** How a field is named to people, and when it is as it was. */
const threadKinds: Readonly<Record<ThreadField, { readonly says: string; readonly holds: Holds }>> = {
  uids: { says: 'user ids', holds: equal },
  gids: { says: 'group ids', holds: equal },
  groups: { says: 'supplementary groups', holds: (was, is) => sorted(was) === sorted(is) },
  inheritable: { says: 'inheritable capabilities', holds: equal },
  permitted: { says: 'permitted capabilities', holds: equal },
  effective: { says: 'effective capabilities', holds: equal },
  // A node may have fewer than the one before, as in a container: nothing is given back to a job that this node's root has not got.
  bounding: { says: 'bounding set', holds: (was, is, node) => {
    const [before, now] = [hexadecimal(was), hexadecimal(is)]
    return before !== undefined && now !== undefined && (before & node) === now
  } },
  ambient: { says: 'ambient capabilities', holds: equal },
  noNewPrivs: { says: 'no_new_privs', holds: equal },
  seccomp: { says: 'seccomp mode', holds: equal },
  // Kernels before 5.9 do not count.
  filters: { says: 'number of seccomp filters', holds: (was, is) => was === is || was === '-' || is === '-' },
  // Programs that may be executed but not read are closed to their user's debuggers. More closed than before is no danger.
  dumpable: { says: 'protection from debuggers', holds: (was, is) => was === is || is === 'root' },
}

function threadDifferences(was: ThreadIdentity, is: Readonly<Partial<Record<ThreadField, string>>>, nodeBounding: bigint, where: string): string[] {
  return threadFields.flatMap((field) => {
    const [before, now] = [was.values[field], is[field]]
    if (now === undefined || threadKinds[field].holds(before, now, nodeBounding)) return []
    return [`thread ${was.tid} of PID ${was.pid}: ${threadKinds[field].says} ${where} ${now}, at the freeze ${before}`]
  })
}

const typeBits = 0o170000

interface FileCheck {
  readonly says: string
  readonly of: (file: HeldFile) => number | string | boolean
}

const isKernels: FileCheck = { says: 'is no longer of the same kind', of: ({ kind }) => kind === 'kernel' }
const typeOf: FileCheck = { says: 'is no longer of the same type', of: ({ mode }) => mode & typeBits }
const owner: FileCheck = { says: 'has another owner', of: ({ uid }) => uid }
const deviceNumber: FileCheck = { says: 'is another device', of: ({ mode, device }) => ([0o020000, 0o060000].includes(mode & typeBits) ? device.replace(/^.*:/, '') : '') }

/**
 * What must be equal, by the kind that the file was of. Groups and the other bits of the mode are for the owner to change, and files that
 * Stint carries or puts back have the group of their place. The differences have no values: a refusal must not tell of files
 * that the user cannot see.
 */
const fileKinds: Readonly<Record<FileKind, readonly FileCheck[]>> = {
  kernel: [isKernels, typeOf],
  own: [isKernels, typeOf, owner],
  named: [isKernels, typeOf, owner, deviceNumber],
}

function slotName({ pid, slot, path }: HeldFile): string {
  const names: Record<string, string> = { cwd: 'the working directory', root: 'the root directory', exe: 'the program' }
  const what = slot.startsWith('map:') ? 'the mapped file' : names[slot] ?? `descriptor ${slot}`
  return `${what} of PID ${pid} (${path})`
}

interface Range { readonly start: bigint; readonly end: bigint; readonly file: HeldFile }

function rangesOf(files: readonly HeldFile[]): Map<number, Range[]> {
  const ranges = new Map<number, Range[]>()
  for (const file of files) {
    const match = /^map:([0-9a-f]+)-([0-9a-f]+)$/.exec(file.slot)
    if (match === null) continue
    const range = { start: BigInt(`0x${match[1] ?? ''}`), end: BigInt(`0x${match[2] ?? ''}`), file }
    const ofProcess = ranges.get(file.pid)
    if (ofProcess === undefined) ranges.set(file.pid, [range])
    else ofProcess.push(range)
  }
  for (const list of ranges.values()) list.sort((a, b) => (a.start < b.start ? -1 : 1))
  return ranges
}

/** The kernel joins and splits mappings: what counts is what lay at the same address. */
function mappedAt(ranges: readonly Range[], address: bigint): HeldFile | undefined {
  let [low, high] = [0, ranges.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((ranges[middle]?.end ?? 0n) <= address) low = middle + 1
    else high = middle
  }
  const range = ranges[low]
  return range !== undefined && range.start <= address ? range.file : undefined
}

/** What nobody has a name for any more and CRIU copies is the user's afterwards: it may have been another's. */
function isUsersCopy(before: HeldFile, now: HeldFile, user: number): boolean {
  return before.deleted && now.uid === user
}

function fileDifferences(was: Identities, is: Identities, user: number): string[] {
  const [slots, mapped] = [new Map(was.files.map((file) => [`${file.pid} ${file.slot}`, file])), rangesOf(was.files)]
  return is.files.flatMap((now) => {
    const start = /^map:([0-9a-f]+)-/.exec(now.slot)?.[1]
    const before = start === undefined ? slots.get(`${now.pid} ${now.slot}`) : mappedAt(mapped.get(now.pid) ?? [], BigInt(`0x${start}`))
    if (before === undefined) return [`${slotName(now)} was not there at the freeze`]
    return fileKinds[before.kind].filter((check) => check.of(before) !== check.of(now) && !(check === owner && isUsersCopy(before, now, user))).slice(0, 1).map(({ says }) => `${slotName(before)} ${says}`)
  })
}

function keyOf({ pid, tid }: { readonly pid: number; readonly tid: number }): string {
  return `${pid} ${tid}`
}

/** What came back otherwise than it was, in words for people. Empty when all is as it was. @param is read on the node of the restore @param user the job's */
export function changedIdentities(was: Identities, is: Identities, user: number): string[] {
  const restored = new Map(is.threads.map((thread) => [keyOf(thread), thread]))
  const recorded = new Set(was.threads.map(keyOf))
  return [
    ...was.threads.flatMap((thread) => {
      const now = restored.get(keyOf(thread))
      return now === undefined ? [`thread ${thread.tid} of PID ${thread.pid} is missing`] : threadDifferences(thread, now.values, is.nodeBounding, 'now')
    }),
    ...is.threads.filter((thread) => !recorded.has(keyOf(thread))).map(({ pid, tid }) => `thread ${tid} of PID ${pid} was not there at the freeze`),
    ...fileDifferences(was, is, user),
  ]
}

/** Files that are other ones than before by device or inode, though nobody else's: for the daemon's log. */
export function replacedFiles(was: Identities, is: Identities): number {
  const before = new Map(was.files.map((file) => [`${file.pid} ${file.slot}`, file]))
  return is.files.filter((now) => {
    const file = before.get(`${now.pid} ${now.slot}`)
    return file?.kind === 'named' && (file.inode !== now.inode || file.device !== now.device)
  }).length
}

/** What an engine's image gives a thread. */
export interface ImageIdentity {
  readonly tid: number
  /** It has ended and waits for its parent: nothing of it will run. */
  readonly ended: boolean
  readonly values: Readonly<Partial<Record<ThreadField, string>>>
  readonly securebits: number
}

/** Bits that need no capability (linux/securebits.h): SECBIT_KEEP_CAPS, and the four of SECBIT_EXEC_* with their locks. */
const freeSecurebits = 0x10 | 0xf00
const setpcap = 1n << 8n

/** No one but the process itself can read its securebits: they are what every job begins with, but for what it may set itself. */
function forgedSecurebits({ values }: ThreadIdentity, image: ImageIdentity): boolean {
  return ((hexadecimal(values.permitted) ?? 0n) & setpcap) === 0n && (image.securebits & ~freeSecurebits) !== 0
}

/** CRIU installs the filters of threads that have the same ones by their leader (SECCOMP_FILTER_FLAG_TSYNC), and says no mode for the others. */
function withLeaders({ values }: ImageIdentity, leader: ImageIdentity | undefined): ImageIdentity['values'] {
  return values.seccomp === '0' && leader?.values.seccomp !== undefined ? { ...values, seccomp: leader.values.seccomp } : values
}

/**
 * What an image says otherwise than the kernel did, in words for people. Empty when it is to be trusted.
 * @param job whose image it is: so must its first process be
 */
export function forgedIdentities(was: Identities, images: readonly ImageIdentity[], job: { readonly uid: number; readonly gid: number; readonly rootPid: number }): string[] {
  const byTid = new Map(images.map((image) => [image.tid, image]))
  const recorded = new Set(was.threads.map(({ tid }) => tid))
  const root = was.threads.find(({ tid }) => tid === job.rootPid)
  const [uids, gids] = [job.uid, job.gid].map((id) => Array(4).fill(id).join(','))
  return [
    ...(root?.values.uids === uids && root?.values.gids === gids ? [] : [`the first process was not the user's: user ids ${root?.values.uids ?? 'unknown'}, group ids ${root?.values.gids ?? 'unknown'}`]),
    ...was.threads.flatMap((thread) => {
      const image = byTid.get(thread.tid)
      if (image === undefined || image.ended) return [`thread ${thread.tid} of PID ${thread.pid} is missing in the image`]
      return [
        ...threadDifferences(thread, withLeaders(image, byTid.get(thread.pid)), ~0n, 'in the image'),
        ...(forgedSecurebits(thread, image) ? [`thread ${thread.tid} of PID ${thread.pid}: securebits in the image 0x${image.securebits.toString(16)}, which it could not set`] : []),
      ]
    }),
    ...images.filter(({ tid, ended }) => !ended && !recorded.has(tid)).map(({ tid }) => `thread ${tid} of the image was not there at the freeze`),
  ]
}

/** So many are told; one is enough to refuse. */
const told = 3

export function tellDifferences(differences: readonly string[]): string {
  return `${differences.slice(0, told).join('; ')}${differences.length > told ? `; and ${differences.length - told} more` : ''}`
}
