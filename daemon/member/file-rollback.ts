import { closeSync, mkdirSync, openSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { placeOf } from '../core/file-places.ts'
import { StintError, asStintError, systemCode } from '../core/errors.ts'
import { laterJournals, parseRollback, planRollback, packName, planSave, type RecordedFile, type Rollback, type RollbackStep, type SaveStep, type Seen, type WritableFile } from '../core/rollback.ts'
import { insideTree } from '../core/obstacles.ts'
import { tryLock } from '../linux/file-lock.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import type { OpenFile, PayloadProcess } from '../linux/payload.ts'
import { unlessGone } from '../linux/processes.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import { asUserOutOfReach, inMounts } from './archive.ts'
import { type Context, type FilesOnRecord, type LookContext, type Looked, type Sandbox, rootPid } from '../context.ts'
import { fileRules } from '../images/locality.ts'

/** In an image: `rollback/record.json` and the contents beside it. */
const directoryName = 'rollback'
const recordName = 'record.json'
/** Descriptors that one helper gets at most, */
const descriptorsPerHelper = 200
/** and orders: starting it takes as long as hundreds of them. */
const ordersPerHelper = 10_000
/** Of a helper that lists what is new in many directories, bytes. */
const maxAnswerBytes = 64 * 2 ** 20
/** Names of files that are said aloud; the event has as many. */
const namesSaid = 20
/** File systems that can let two files share blocks (FICLONE), some only as they were made. */
const cloneTypes = new Set(['btrfs', 'xfs', 'bcachefs', 'ocfs2', 'zfs', 'nfs4', 'cifs', 'smb3'])

/** What the helper is told, and the file whose content goes with it. */
interface Order {
  /** @param descriptor of the content; -1 without one */
  readonly words: (descriptor: number) => readonly string[]
  readonly content: string | undefined
}

/** What all orders have in common. */
interface OrderOptions {
  /** Of the contents, which the daemon opens: no user can reach into an image. */
  readonly flags: 'r' | 'wx'
  /** The helper's descriptor 3. */
  readonly first?: number
  /** It takes descriptors from the payload's processes, which it knows as the sandbox counts: no other process has these numbers there. */
  readonly fromPayload?: true
}

/** Orders in parts of which one helper can carry out each. */
function batches(orders: readonly Order[]): Order[][] {
  const parts: Order[][] = []
  let contents = new Set<string>()
  for (const order of orders) {
    const part = parts.at(-1)
    if (order.content !== undefined) contents.add(order.content)
    if (part !== undefined && part.length < ordersPerHelper && contents.size <= descriptorsPerHelper) part.push(order)
    else {
      parts.push([order])
      contents = new Set(order.content === undefined ? [] : [order.content])
    }
  }
  return parts
}

/**
 * Runs `stint-init files` (plugins/spank/files/files.c) as the job's user in its mounts.
 * @returns the helper's answers
 */
async function order(context: Context, sandbox: Sandbox, orders: readonly Order[], options: OrderOptions): Promise<string[]> {
  const answers: string[] = []
  const runAs = await asUserOutOfReach(context, sandbox, options.fromPayload === true ? 'sys_ptrace' : undefined)
  const shared = options.first === undefined ? [] : [options.first]
  for (const part of batches(orders)) {
    const opened = new Map<string, number>()
    try {
      const numbers = new Map<string, number>()
      const input = part.flatMap(({ words, content }) => {
        if (content !== undefined && !opened.has(content)) {
          opened.set(content, openSync(content, options.flags, 0o600))
          numbers.set(content, 2 + shared.length + opened.size)
        }
        return words(content === undefined ? -1 : numbers.get(content) ?? -1)
      })
      const { stdout } = await context.commands.run(
        [...inMounts(context, sandbox, ...(options.fromPayload === true ? ['pid' as const] : [])), ...runAs, join(context.config.paths.libexec_dir, 'stint-init'), 'files'],
        { input: input.map((word) => `${word}\0`).join(''), descriptors: [...shared, ...opened.values()], timeoutSeconds: context.config.checkpoint.timeout_seconds, maxOutputBytes: maxAnswerBytes },
      )
      answers.push(...stdout.split('\0').slice(0, -1))
    } finally {
      for (const descriptor of opened.values()) closeSync(descriptor)
    }
  }
  return answers
}

/**
 * Tells whether the payload would notice that one of its files is opened. Inodes alone are compared: the kernel's device numbers of
 * a watch are not always those of stat(2).
 */
function noticer(sandbox: Looked, processes: readonly PayloadProcess[]): (file: OpenFile) => boolean {
  const watched = new Set(processes.flatMap((process) => process.watched.map(({ inode }) => inode)))
  const leased = new Set(processes.flatMap((process) => process.files.filter((file) => file.leased).map((file) => file.path)))
  const parents = new Map<string, number | undefined>()
  const parentOf = (path: string): number => {
    const parent = dirname(path)
    if (!parents.has(parent)) parents.set(parent, unlessGone(() => statSync(`${sandbox.pid1.proc}/root${parent}`))?.ino)
    return parents.get(parent) ?? -1
  }
  return (file) => leased.has(file.path) || (watched.size > 0 && (watched.has(0) || watched.has(file.inode) || watched.has(parentOf(file.path))))
}

/** Of all open files those that stay where they are and may change: open for writing, neither private nor carried. */
function writableFiles(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[], carried: ReadonlySet<string>): WritableFile[] {
  const rules = fileRules(context)
  const mounts = mountsOf(sandbox.pid1)
  const storeDevice = statSync(context.config.store.path, { throwIfNoEntry: false })?.dev
  const isNoticed = noticer(sandbox, processes)
  return insideTree(processes, rootPid).flatMap((process) => process.files).flatMap((file) => {
    if (file.kind !== 'file' || !file.writable || file.deleted || carried.has(file.path)) return []
    const type = (mounts.find((m) => m.id === file.mountId) ?? mountOfPath(mounts, file.path))?.type
    if (!['shared', 'local'].includes(placeOf(file.path, type, true, rules))) return []
    return [{ ...file, clonable: file.device === storeDevice && type !== undefined && cloneTypes.has(type), noticed: isNoticed(file) }]
  })
}

/** What is to be recorded of the files that the payload has open for writing. */
export function planFor(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[], carried: readonly string[]): SaveStep[] {
  const files = writableFiles(context, sandbox, processes, new Set(carried))
  return planSave(files, sandbox.options.norollback, context.config.files.rollback_copy_limit_mb * 1e6)
}

/** Output and error of the job: the guard has them as slurmstepd opened them. */
function outputsOf({ guard }: Sandbox): ReadonlySet<string> {
  return new Set([1, 2].flatMap((fd) => {
    try {
      return [readlinkSync(`${guard.proc}/fd/${fd}`)]
    } catch {
      return [] // @NOTE A guard without them writes to neither.
    }
  }))
}

/** What was recorded of one file, and what cannot come back of it. */
interface Recorded {
  readonly file: RecordedFile | undefined
  readonly lack: string | undefined
}

/** Why a file's content is not in the image although it may change in place; undefined where it need not be. */
function lackOf(step: SaveStep, how: string, limitMb: number): string | undefined {
  if (how === 'clone' || how === 'copy' || step.append) return undefined
  if (how === 'unseen') return 'the job has it open for writing only, and would notice that it is read (it holds a lease on it, or watches it)'
  return `its ${Math.ceil(step.bytes / 1e6)} MB are more than files.rollback_copy_limit_mb (${limitMb}) has room for`
}

/** @param clone name of the file that a clone was made in */
function readSaved(step: SaveStep, clone: string, outputs: ReadonlySet<string>, limitMb: number, answer: string | undefined): Recorded {
  const match = /^saved (\d+) (-?\d+) (\d+) (\d+) (none|clone|copy|too-large|unseen) (\d+)$/.exec(answer ?? '')
  if (match === null) return { file: undefined, lack: answer === 'elsewhere' ? 'it was renamed or deleted while it was open' : (answer ?? 'no answer').replace(/^failed /, '') }
  const [, bytes, mtime = '', inode = '', mode, how = '', offset] = match
  const content = how === 'clone' ? { content: clone } : how === 'copy' ? { content: packName, offset: Number(offset) } : { content: null }
  return {
    file: { path: step.path, bytes: Number(bytes), mtime, inode, mode: Number(mode), append: step.append, output: outputs.has(step.path), ...content },
    lack: lackOf(step, how, limitMb),
  }
}

/** Says which files will not come back, each once in a run. */
function reportLacks(context: Context, sandbox: Sandbox, lacks: readonly { path: string; why: string }[]): void {
  const { events } = context.catalogue
  const known = new Set(events.ofRun(sandbox.run.id).filter((e) => e.kind === 'not-rollbackable').flatMap((e) => (e.detail['files'] as { path: string }[]).map((f) => f.path)))
  const fresh = lacks.filter((lack) => !known.has(lack.path)).slice(0, namesSaid)
  if (fresh.length === 0) return
  events.add(sandbox.run.id, Date.now(), 'not-rollbackable', { files: fresh })
  for (const { path, why } of fresh) sandbox.link?.send('say', { text: `${path} cannot be put back if it is written to after this checkpoint and the job continues from it: ${why}` })
}

/** What is asked of the helper for one file (plugins/spank/files/files_save.c). */
function howToSave(step: SaveStep): string {
  return `${step.clone ? 'r' : ''}${step.copy ? 'c' : ''}${step.append && !step.copy ? 'f' : ''}`
}

async function record(context: Context, sandbox: Sandbox, directory: string, { plan }: FilesOnRecord): Promise<number> {
  const frozenAt = Date.now()
  const outputs = outputsOf(sandbox)
  const into = join(directory, directoryName)
  mkdirSync(into, { mode: 0o700 })
  const pack = openSync(join(into, packName), 'wx', 0o600)
  const answers = await order(context, sandbox, plan.map((step, n) => ({
    content: step.clone ? join(into, String(n)) : undefined,
    words: (descriptor) => ['save', String(step.holder?.pid ?? -1), String(step.holder?.fd ?? -1), step.source ?? '', step.path, String(descriptor), howToSave(step)],
  })), { flags: 'wx', first: pack, fromPayload: true }).finally(() => { closeSync(pack) })
  const recorded = plan.map((step, n) => ({ path: step.path, ...readSaved(step, String(n), outputs, context.config.files.rollback_copy_limit_mb, answers[n]) }))
  const rollback: Rollback = { frozenAt, files: recorded.flatMap(({ file }) => (file === undefined ? [] : [file])) }
  writeFileSync(join(into, recordName), JSON.stringify(rollback), { mode: 0o600 })
  reportLacks(context, sandbox, recorded.flatMap(({ path, lack }) => (lack === undefined ? [] : [{ path, why: lack }])))
  return rollback.files.length
}

/**
 * Records what the payload has open for writing, into the image. The payload is frozen, and with it all other members: a file that
 * several of them write must not change any more. A fault here costs the files' way back, never the checkpoint.
 * @returns how many files are on record
 */
export async function recordFiles(context: Context, sandbox: Sandbox, directory: string, files: FilesOnRecord): Promise<number> {
  try {
    return await record(context, sandbox, directory, files)
  } catch (cause) {
    const error = asStintError(cause)
    context.log.error({ err: error, job: sandbox.run.job_id }, 'open files not recorded')
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'files-not-recorded', { code: error.code, message: error.message })
    sandbox.link?.send('say', { text: `the files that are open for writing could not be recorded; they stay as they are if the job continues from this checkpoint: ${error.message}` })
    return 0
  }
}

/** Undefined in images from before files were recorded, or where that failed. */
function readRecord(image: StoredImage): Rollback | undefined {
  try {
    return parseRollback(readFileSync(join(image.directory, directoryName, recordName), 'utf8'))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

function readSeen(answer: string | undefined): Seen {
  const match = /^file (\d+) (-?\d+) (\d+)$/.exec(answer ?? '')
  if (match !== null) return { kind: 'file', bytes: Number(match[1]), mtime: match[2] ?? '', inode: match[3] ?? '' }
  return answer === 'missing' || answer === 'other' ? { kind: answer } : { kind: 'failed', why: (answer ?? 'no answer').replace(/^failed /, '') }
}

/** What is at these paths, by what the job's user may look at: nobody learns anything of other files from what is said of it. */
export async function lookAt(context: Context, sandbox: Sandbox, paths: readonly string[]): Promise<Seen[]> {
  const answers = await order(context, sandbox, paths.map((path) => ({ content: undefined, words: () => ['look', path] })), { flags: 'r' })
  return paths.map((_, n) => readSeen(answers[n]))
}

/** The helper's order for a step; undefined where nothing is to be done. */
function orderFor(file: RecordedFile, step: RollbackStep, directory: string): Order | undefined {
  const { path, mtime } = file
  const bytes = String(file.bytes)
  switch (step.kind) {
    case 'cut': return { content: undefined, words: () => ['cut', path, bytes, file.output ? 'keep' : 'drop', mtime] }
    case 'rewrite': return { content: join(directory, step.content), words: (descriptor) => ['rewrite', path, String(descriptor), String(step.offset), bytes, mtime] }
    case 'create': return { content: join(directory, step.content), words: (descriptor) => ['create', path, String(descriptor), String(step.offset), bytes, String(file.mode), mtime] }
    case 'keep': case 'unsure': case 'impossible': return undefined
  }
}

/** @throws StintError E_ROLLBACK naming the first of the files */
function assertPossible(failures: readonly { path: string; why: string }[]): void {
  const first = failures[0]
  if (first === undefined) return
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more)` : ''
  throw new StintError('E_ROLLBACK', `${first.path} cannot be put back: ${first.why}${more}`, { details: { files: failures.slice(0, namesSaid) } })
}

/** Nanoseconds since 1970, as the helper wants them. */
function nanoseconds(at: number): string {
  return String(BigInt(Math.floor(at)) * 1_000_000n)
}

/** @returns the new names. @throws StintError E_ROLLBACK */
async function moveJournalsAside(context: Context, sandbox: Sandbox, rollback: Rollback): Promise<string[]> {
  const journals = laterJournals(rollback.files)
  const answers = await order(context, sandbox, journals.map(({ database, journal }) => ({ content: undefined, words: () => ['aside', database, journal, nanoseconds(rollback.frozenAt)] })), { flags: 'r' })
  assertPossible(journals.flatMap(({ journal }, n) => (/^(none$|moved )/.test(answers[n] ?? '') ? [] : [{ path: journal, why: (answers[n] ?? 'no answer').replace(/^failed /, '') }])))
  return answers.filter((answer) => answer.startsWith('moved ')).map((answer) => answer.slice('moved '.length))
}

/** Files of the user beside those put back that were created or changed after the checkpoint. */
async function newsBeside(context: Context, sandbox: Sandbox, rollback: Rollback): Promise<string[]> {
  const own = new Set(rollback.files.map((file) => file.path))
  const directories = [...new Set(rollback.files.map((file) => dirname(file.path)))]
  const answers = await order(context, sandbox, directories.map((directory) => ({ content: undefined, words: () => ['news', directory, nanoseconds(rollback.frozenAt)] })), { flags: 'r' })
  return answers.filter((answer) => answer.startsWith('new ')).map((answer) => answer.slice('new '.length)).filter((path) => !own.has(path))
}

function reportRollback(context: Context, sandbox: Sandbox, checkpoint: number, steps: readonly { file: RecordedFile; step: RollbackStep }[], found: { aside: readonly string[]; leftAlone: readonly string[] }): void {
  const paths = (wanted: (step: RollbackStep) => boolean): string[] => steps.filter(({ step }) => wanted(step)).map(({ file }) => file.path)
  const unsure = paths((step) => step.kind === 'unsure' || (step.kind === 'cut' && step.unsure))
  const changed = paths((step) => step.kind === 'cut' || step.kind === 'rewrite' || step.kind === 'create')
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'rolled-back', {
    checkpoint, files: changed.slice(0, namesSaid), count: changed.length, unsure: unsure.slice(0, namesSaid), aside: found.aside.slice(0, namesSaid), leftAlone: found.leftAlone.slice(0, namesSaid), leftAloneCount: found.leftAlone.length,
  })
  for (const path of unsure.slice(0, namesSaid)) sandbox.link?.send('say', { text: `${path} was written to after checkpoint ${checkpoint}, and there is no copy of what it held: its content may be of a later time than the job` })
  for (const path of found.aside.slice(0, namesSaid)) sandbox.link?.send('say', { text: `a journal that SQLite made after checkpoint ${checkpoint} is now ${path}: it does not fit the database as it was` })
  if (found.leftAlone.length > 0) {
    const more = found.leftAlone.length > namesSaid ? ` and ${found.leftAlone.length - namesSaid} more` : ''
    sandbox.link?.send('say', { text: `created or changed after checkpoint ${checkpoint}, and left as they are: ${found.leftAlone.slice(0, namesSaid).join(', ')}${more}` })
  }
}

/**
 * Before the engine restores: every file that the payload had open for writing becomes what it was at the freeze. All are looked at
 * before the first is touched. May be cut short at any instant and done again.
 * @throws StintError E_ROLLBACK, E_COMMAND_FAILED, E_IMAGE_DAMAGED
 */
async function rollBackNow(context: Context, sandbox: Sandbox, image: StoredImage): Promise<void> {
  const rollback = readRecord(image)
  if (rollback === undefined || rollback.files.length === 0) return
  const seen = await lookAt(context, sandbox, rollback.files.map(({ path }) => path))
  const steps = rollback.files.map((file, n) => ({ file, step: planRollback(file, seen[n] ?? { kind: 'failed', why: 'no answer' }) }))
  assertPossible(steps.flatMap(({ file, step }) => (step.kind === 'impossible' ? [{ path: file.path, why: step.why }] : [])))
  const orders = steps.flatMap(({ file, step }) => {
    const one = orderFor(file, step, join(image.directory, directoryName))
    return one === undefined ? [] : [{ path: file.path, one }]
  })
  const answers = await order(context, sandbox, orders.map(({ one }) => one), { flags: 'r' })
  assertPossible(orders.flatMap(({ path }, n) => (answers[n] === 'done' ? [] : [{ path, why: (answers[n] ?? 'no answer').replace(/^failed /, '') }])))
  const aside = await moveJournalsAside(context, sandbox, rollback)
  const news = await newsBeside(context, sandbox, rollback)
  reportRollback(context, sandbox, image.manifest.checkpoint, steps, { aside, leftAlone: news.filter((path) => !aside.includes(path)) })
}

/** Between looks at a lock that another member has, milliseconds. */
const turnMilliseconds = 50

/**
 * The same, one member of the run after another: a file that several have open must be put back once, and is found as it
 * should be by those that come later. Where the store has no locks they go at once, as a run on one node does.
 * @throws StintError E_ROLLBACK; E_BUSY when another member does not come to its end in time
 */
export async function rollBack(context: Context, sandbox: Sandbox, image: StoredImage): Promise<void> {
  if (image.manifest.members.length === 1) {
    await rollBackNow(context, sandbox, image)
    return
  }
  const end = Date.now() + context.config.restore.timeout_seconds * 1000
  const path = join(dirname(image.directory), 'rollback.lock')
  let lock = tryLock(path)
  for (; lock === 'taken'; lock = tryLock(path)) {
    if (Date.now() > end) throw new StintError('E_BUSY', 'another member of the run is still putting files back')
    await sleep(turnMilliseconds)
  }
  try {
    await rollBackNow(context, sandbox, image)
  } finally {
    if (lock !== 'unsupported') lock[Symbol.dispose]()
  }
}
