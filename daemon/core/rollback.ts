import { Type, type Static } from 'typebox'
import { Value } from 'typebox/value'
import { StintError } from './errors.ts'
import { matchesGlob, parseGlob } from './glob.ts'

/**
 * Files of the job that stay where they are while the job is saved, and must be as they were when it continues: what is
 * recorded of them while the payload is frozen, and what a restore does with them.
 */

/** One way in which a process has a file open for writing. */
export interface WritableFile {
  readonly path: string
  /** As the sandbox numbers it. */
  readonly pid: number
  /** Missing for a mapping whose descriptor is closed. */
  readonly fd: number | undefined
  /** Opened with O_APPEND: what is there already stays. */
  readonly append: boolean
  readonly bytes: number
  /** On the image store's own file system, and that can share blocks between files. */
  readonly clonable: boolean
  /** Its content can be read by this descriptor. */
  readonly readable: boolean
  /** The payload would notice that the file is opened: it holds a lease on it, or watches it. */
  readonly noticed: boolean
}

/** What is to be recorded of one file. */
export interface SaveStep {
  readonly path: string
  /** The descriptor by which it is read. */
  readonly holder: { readonly pid: number; readonly fd: number } | undefined
  /** What is opened where that does not serve; undefined: nothing may be. */
  readonly source: string | undefined
  readonly bytes: number
  readonly append: boolean
  readonly clone: boolean
  readonly copy: boolean
}

/** A file below this is rather copied than cloned: each clone is a file of the image, with a checksum and a flush of its own. Bytes. */
const leastCloneBytes = 1e6

/** Logs up to this total are copied, too, so that one that is deleted later comes back; the others are only cut. Bytes. */
const appendCopyBytes = 16e6

/**
 * Tells which files an option leaves out.
 * @param patterns as `norollback` has them: between colons, with a slash of the whole path, without one of the name
 */
export function excluder(patterns: string): (path: string) => boolean {
  const globs = patterns.split(':').filter((pattern) => pattern !== '').map((pattern) => ({ glob: parseGlob(pattern), ofPath: pattern.includes('/') }))
  return (path) => {
    const name = path.slice(path.lastIndexOf('/') + 1)
    return globs.some(({ glob, ofPath }) => matchesGlob(glob, ofPath ? path : name))
  }
}

/** Every path once, by the descriptor that tells most: open for appending only if everything that has it open is. */
function merge(files: readonly WritableFile[]): Omit<SaveStep, 'copy'>[] {
  return [...Map.groupBy(files, (file) => file.path)].map(([path, opened]) => {
    const best = opened.find((file) => file.fd !== undefined && file.readable) ?? opened.find((file) => file.fd !== undefined)
    const holder = best?.fd === undefined ? undefined : { pid: best.pid, fd: best.fd }
    const source = holder === undefined ? path : `/proc/${holder.pid}/fd/${holder.fd}`
    const last = opened.at(-1)
    return {
      path, holder, source: opened.some((file) => file.noticed) ? undefined : source, bytes: last?.bytes ?? 0,
      append: opened.every((file) => file.append), clone: last?.clonable === true && last.bytes >= leastCloneBytes,
    }
  })
}

/**
 * What is recorded: of every file its size, and its content where that may change in place. The smallest are copied first, so that
 * as many files as possible come back whole.
 * @param limitBytes of all plain copies together
 */
export function planSave(files: readonly WritableFile[], patterns: string, limitBytes: number): SaveStep[] {
  const isExcluded = excluder(patterns)
  let [left, leftForLogs] = [limitBytes, Math.min(appendCopyBytes, limitBytes)]
  const plan = (step: Omit<SaveStep, 'copy'>): SaveStep => {
    const copy = step.bytes <= left && (!step.append || step.bytes <= leftForLogs)
    if (copy) left -= step.bytes
    if (copy && step.append) leftForLogs -= step.bytes
    return { ...step, copy }
  }
  return merge(files.filter((file) => !isExcluded(file.path))).toSorted((a, b) => Number(a.append) - Number(b.append) || a.bytes - b.bytes).map(plan)
}

/** Bytes that a plan adds to what a checkpoint must write or, for clones, read for their checksums; and how many files it reads. */
export function plannedCost(plan: readonly SaveStep[]): { copied: number; cloned: number; files: number } {
  const sum = (steps: readonly SaveStep[]): number => steps.reduce((bytes, step) => bytes + step.bytes, 0)
  return { copied: sum(plan.filter((step) => step.copy && !step.clone)), cloned: sum(plan.filter((step) => step.clone)), files: plan.length }
}

/** Of the file of an image that has the contents of many, one behind the other. */
export const packName = 'pack'

const RecordedFile = Type.Object({
  path: Type.String(),
  bytes: Type.Integer({ minimum: 0 }),
  /** Nanoseconds since 1970; too many digits for a number. */
  mtime: Type.String({ pattern: '^-?\\d+$' }),
  inode: Type.String({ pattern: '^\\d+$' }),
  /** Permission bits. */
  mode: Type.Integer({ minimum: 0, maximum: 0o7777 }),
  append: Type.Boolean(),
  /** Standard output or error of the job: Slurm and Stint write to it, too. */
  output: Type.Boolean(),
  /** Name of the file of the image that has its content; null when there is only what is said here. */
  content: Type.Union([Type.Null(), Type.String({ pattern: `^(\\d+|${packName})$` })]),
  /** Where in that its content begins, bytes; missing in images from before contents were packed: 0. */
  offset: Type.Optional(Type.Integer({ minimum: 0 })),
})

/** Beside the contents in an image. */
export const RollbackSchema = Type.Object({
  /** Milliseconds since 1970. */
  frozenAt: Type.Number(),
  files: Type.Array(RecordedFile),
})

export type RecordedFile = Static<typeof RecordedFile>
export type Rollback = Static<typeof RollbackSchema>

/** @throws StintError E_IMAGE_DAMAGED */
export function parseRollback(text: string): Rollback {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new StintError('E_IMAGE_DAMAGED', 'the record of the open files is no JSON', { cause })
  }
  if (!Value.Check(RollbackSchema, value)) throw new StintError('E_IMAGE_DAMAGED', 'the record of the open files lacks fields')
  return value
}

/** A file as it is before the restore. */
export type Seen =
  | { readonly kind: 'file'; readonly bytes: number; readonly mtime: string; readonly inode: string }
  | { readonly kind: 'missing' | 'other' }
  | { readonly kind: 'failed'; readonly why: string }

export type RollbackStep =
  | { readonly kind: 'keep' }
  /** @property unsure written in place without a copy: the size comes back, the content perhaps not */
  | { readonly kind: 'cut'; readonly unsure: boolean }
  | { readonly kind: 'unsure' }
  | { readonly kind: 'rewrite'; readonly content: string; readonly offset: number }
  /** Under its name, as a new file. */
  | { readonly kind: 'create'; readonly content: string; readonly offset: number }
  | { readonly kind: 'impossible'; readonly why: string }

/** A file of which only the size is known. */
function planWithoutContent(file: RecordedFile, seen: Extract<Seen, { kind: 'file' }>): RollbackStep {
  if (seen.inode !== file.inode) return { kind: 'impossible', why: 'another file has taken its place, and the image has no copy' }
  if (seen.bytes < file.bytes) return { kind: 'impossible', why: `it has ${seen.bytes} bytes, had ${file.bytes} when the job was saved, and the image has no copy` }
  const unsure = !file.append && seen.mtime !== file.mtime
  if (seen.bytes > file.bytes) return { kind: 'cut', unsure }
  return { kind: unsure ? 'unsure' : 'keep' }
}

/**
 * What makes a file what it was. Content that is in the image is compared with the file's, whatever its times say: stores through a
 * mapping do not always change them. A file that has taken the recorded one's place keeps its content under its other names.
 */
export function planRollback(file: RecordedFile, seen: Seen): RollbackStep {
  const { content, offset = 0 } = file
  switch (seen.kind) {
    case 'failed': return { kind: 'impossible', why: seen.why }
    case 'other': return { kind: 'impossible', why: 'it is no regular file any more' }
    case 'missing': return content === null ? { kind: 'impossible', why: 'it was deleted, and the image has no copy' } : { kind: 'create', content, offset }
    case 'file':
      if (file.append && seen.inode === file.inode && seen.bytes >= file.bytes) return seen.bytes === file.bytes ? { kind: 'keep' } : { kind: 'cut', unsure: false }
      if (content === null) return planWithoutContent(file, seen)
      return { kind: seen.inode === file.inode ? 'rewrite' : 'create', content, offset }
  }
}

/**
 * Names that a journal of a recorded file would have if that is an SQLite database. One that came after the freeze would be played
 * into the database that was put back.
 */
export function laterJournals(files: readonly RecordedFile[]): { database: string; journal: string }[] {
  const recorded = new Set(files.map((file) => file.path))
  return files.filter((file) => !file.append && !/-(journal|wal|shm)$/.test(file.path)).flatMap(({ path }) => (
    ['-journal', '-wal'].map((suffix) => ({ database: path, journal: path + suffix })).filter(({ journal }) => !recorded.has(journal))
  ))
}
