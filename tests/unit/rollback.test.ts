import { describe, expect, test } from '@jest/globals'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { recordFiles, rollBack } from '../../daemon/member/file-rollback.ts'
import { excluder, laterJournals, parseRollback, planRollback, planSave, plannedCost, type RecordedFile, type Rollback, type Seen, type WritableFile } from '../../daemon/core/rollback.ts'
import { makeContext, manifest } from '../support/context.ts'
import { said } from '../support/errors.ts'

/** What is recorded of files that are open for writing, and what a restore makes of them. */

const MB = 1e6

function open(path: string, change: Partial<WritableFile> = {}): WritableFile {
  return { path, pid: 1001, fd: 3, append: false, bytes: MB, clonable: false, readable: true, noticed: false, ...change }
}

describe('a pattern of norollback', () => {
  test.each([
    ['/a/b.log', '*.log', true], ['/a/b.log', 'b.log', true], ['/a/b.log', '*.lo', false], ['/a/b.log', 'a', false],
    ['/a/.b.log', '*.log', true], ['/a/b.log', '?.log', true], ['/a/bb.log', '?.log', false],
    ['/a/b/c', '/a/**', true], ['/a/.b/c', '/a/**', true], ['/a/b/c', '/a/*', false], ['/a/b/c', '/a/*/c', true], ['/ab/c', '/a/**', false],
    ['/a/b(1)+[x]', '/a/b(1)+[x]', true], ['/a/bxlog', 'b.log', false], ['/a/b\nc', '/a/*', true],
    ['/a/b', 'x:b', true], ['/a/b', 'x:/a/*:y', true], ['/a/b', '', false], ['/a/b', 'x', false],
  ])('%j is left out by %j: %s', (path, patterns, expected) => {
    expect(excluder(patterns)(path)).toBe(expected)
  })
})

describe('what is recorded', () => {
  const plan = (files: WritableFile[], limit = 10 * MB, patterns = ''): [string, boolean, boolean, boolean][] => planSave(files, patterns, limit).map((s) => [s.path, s.append, s.clone, s.copy])

  test('of a file is its content, as long as the limit lasts, the smallest first', () => {
    expect(plan([open('/c', { bytes: 6 * MB }), open('/a', { bytes: 5 * MB }), open('/b', { bytes: 1 * MB })])).toEqual([['/b', false, false, true], ['/a', false, false, true], ['/c', false, false, false]])
  })

  test('is nothing beyond names and sizes with a limit of 0, but for empty files', () => {
    expect(plan([open('/a'), open('/b', { bytes: 0 })], 0)).toEqual([['/b', false, false, true], ['/a', false, false, false]])
  })

  test('of a log comes last, and only while it is small', () => {
    expect(plan([open('/log', { append: true, bytes: 1 }), open('/data', { bytes: 10 * MB })])).toEqual([['/data', false, false, true], ['/log', true, false, false]])
    expect(plan([open('/log', { append: true, bytes: 17 * MB })], 1000 * MB)).toEqual([['/log', true, false, false]])
    expect(plan([open('/l1', { append: true, bytes: 9 * MB }), open('/l2', { append: true, bytes: 9 * MB })], 1000 * MB)).toEqual([['/l1', true, false, true], ['/l2', true, false, false]])
  })

  test('is one thing for a file that is open several times: a log only if all append', () => {
    expect(plan([open('/a', { append: true }), open('/a', { append: true, pid: 1002 })])).toEqual([['/a', true, false, true]])
    expect(plan([open('/a', { append: true }), open('/a', { fd: undefined })])).toEqual([['/a', false, false, true]])
    expect(plan([open('/a', { fd: undefined }), open('/a', { append: true })])).toEqual([['/a', false, false, true]])
  })

  test('is read through a descriptor where there is one, one for reading before others, or else by name', () => {
    const how = (...files: WritableFile[]): unknown => planSave(files, '', MB).map(({ holder, source }) => ({ holder, source }))
    expect(how(open('/a', { fd: undefined }), open('/a', { pid: 7, fd: 5 }), open('/a', { pid: 8, fd: 6 }))).toEqual([{ holder: { pid: 7, fd: 5 }, source: '/proc/7/fd/5' }])
    expect(how(open('/a', { pid: 7, fd: 5 }), open('/a', { fd: undefined }))).toEqual([{ holder: { pid: 7, fd: 5 }, source: '/proc/7/fd/5' }])
    expect(how(open('/a', { pid: 7, fd: 5, readable: false }), open('/a', { pid: 8, fd: 6 }))).toEqual([{ holder: { pid: 8, fd: 6 }, source: '/proc/8/fd/6' }])
    expect(how(open('/a', { fd: undefined }))).toEqual([{ holder: undefined, source: '/a' }])
  })

  test('is never opened where any process of the job would notice', () => {
    expect(planSave([open('/a', { noticed: true }), open('/a', { pid: 8, fd: 6 })], '', MB)[0]?.source).toBeUndefined()
  })

  test('is copied rather than cloned while it is small', () => {
    expect(plan([open('/a', { bytes: MB - 1, clonable: true }), open('/b', { clonable: true })])).toEqual([['/a', false, false, true], ['/b', false, true, true]])
  })

  test('leaves out what the user leaves out', () => {
    expect(plan([open('/x/a.log'), open('/x/b')], MB, '*.log')).toEqual([['/x/b', false, false, true]])
  })

  test('adds its copies to what a checkpoint writes, its clones to what it reads', () => {
    const steps = planSave([open('/a', { bytes: 1 }), open('/b', { bytes: 2 * MB, clonable: true }), open('/c', { bytes: 30 * MB })], '', 29 * MB)
    expect(plannedCost(steps)).toEqual({ copied: 1, cloned: 2 * MB, files: 3 })
    expect(plannedCost([])).toEqual({ copied: 0, cloned: 0, files: 0 })
  })
})

const log: RecordedFile = { path: '/d/log', bytes: 100, mtime: '5', inode: '9', mode: 0o644, append: true, output: false, content: null }
const data: RecordedFile = { ...log, path: '/d/data', append: false, content: 'pack', offset: 7 }
const large: RecordedFile = { ...data, path: '/d/large', content: null, offset: 0 }
const copiedLog: RecordedFile = { ...log, content: '1' }

function seen(change: Partial<Extract<Seen, { kind: 'file' }>> = {}): Seen {
  return { kind: 'file', bytes: 100, mtime: '5', inode: '9', ...change }
}

describe('a restore', () => {
  const [keep, rewrite, create] = [{ kind: 'keep' }, { kind: 'rewrite', content: 'pack', offset: 7 }, { kind: 'create', content: 'pack', offset: 7 }]

  test.each([
    ['a log as it was', log, seen(), keep],
    ['a log with other times', log, seen({ mtime: '6' }), keep],
    ['a log that has grown', log, seen({ bytes: 101 }), { kind: 'cut', unsure: false }],
    ['a copied log that has grown', copiedLog, seen({ bytes: 101 }), { kind: 'cut', unsure: false }],
    ['a copied log that is shorter', copiedLog, seen({ bytes: 99 }), { kind: 'rewrite', content: '1', offset: 0 }],
    ['a copied log that was deleted', copiedLog, { kind: 'missing' }, { kind: 'create', content: '1', offset: 0 }],
    ['a copied log that was rotated', copiedLog, seen({ inode: '10' }), { kind: 'create', content: '1', offset: 0 }],
    ['data as it was by its times', data, seen(), rewrite],
    ['data that was changed', data, seen({ mtime: '6' }), rewrite],
    ['data that has grown', data, seen({ bytes: 101 }), rewrite],
    ['data that is shorter', data, seen({ bytes: 0 }), rewrite],
    ['data that was deleted', data, { kind: 'missing' }, create],
    ['data another file has replaced', data, seen({ inode: '10' }), create],
    ['data without a copy as it was', large, seen(), keep],
    ['data without a copy, changed', large, seen({ mtime: '6' }), { kind: 'unsure' }],
    ['data without a copy, grown', large, seen({ bytes: 101, mtime: '6' }), { kind: 'cut', unsure: true }],
  ] as const)('meets %s', (_, file, now, step) => {
    expect(planRollback(file, now)).toEqual(step)
  })

  test.each([
    ['a log that is shorter', log, seen({ bytes: 99 }), /has 99 bytes, had 100/],
    ['a log that was rotated', log, seen({ inode: '10' }), /another file has taken its place/],
    ['a log that was deleted', log, { kind: 'missing' }, /was deleted, and the image has no copy/],
    ['data without a copy that is shorter', large, seen({ bytes: 99 }), /has 99 bytes, had 100/],
    ['data without a copy that was replaced', large, seen({ inode: '10' }), /another file has taken its place/],
    ['a link or directory in its place', data, { kind: 'other' }, /no regular file/],
    ['a file the user may not see any more', data, { kind: 'failed', why: 'Permission denied' }, /^Permission denied$/],
  ] as const)('says why it cannot: %s', (_, file, now, why) => {
    expect(planRollback(file, now)).toEqual({ kind: 'impossible', why: expect.stringMatching(why) as unknown })
  })

  test('asks for journals that SQLite may have made since, beside files that may be databases', () => {
    const at = (path: string, append = false): RecordedFile => ({ ...data, path, append })
    expect(laterJournals([at('/d/x.db'), at('/d/x.db-wal'), at('/d/x.db-shm'), at('/d/log', true)])).toEqual([{ database: '/d/x.db', journal: '/d/x.db-journal' }])
    expect(laterJournals([])).toEqual([])
  })
})

describe('the record in an image', () => {
  const record: Rollback = { frozenAt: 1, files: [log, data, large] }

  test('is read back', () => {
    expect(parseRollback(JSON.stringify(record))).toEqual(record)
  })

  test.each([
    ['nothing', ''], ['half of it', JSON.stringify(record).slice(0, 80)], ['something else', '[]'], ['no files', '{"frozenAt":1}'],
    ['a file without a path', JSON.stringify({ ...record, files: [{ ...log, path: undefined }] })],
    ['a negative size', JSON.stringify({ ...record, files: [{ ...log, bytes: -1 }] })],
    ['a content that leads out of the image', JSON.stringify({ ...record, files: [{ ...log, content: '../../x' }] })],
    ['a content that begins before its file', JSON.stringify({ ...record, files: [{ ...data, offset: -1 }] })],
    ['more than permission bits', JSON.stringify({ ...record, files: [{ ...log, mode: 0o100644 }] })],
    ['a time that is no number', JSON.stringify({ ...record, files: [{ ...log, mtime: '1 2' }] })],
  ])('is damaged when it is %s', async (_, text) => {
    expect(await said(() => parseRollback(text))).toMatch(/^E_IMAGE_DAMAGED: the record of the open files/)
  })
})

describe('the daemon', () => {
  test('records that nothing is open for writing, too', async () => {
    await using made = makeContext()
    const sandbox = made.addSandbox(5)
    await recordFiles(made.context, sandbox, made.folder, { plan: [] })
    expect(parseRollback(readFileSync(join(made.folder, 'rollback/record.json'), 'utf8')).files).toEqual([])
    expect(made.context.catalogue.events.ofRun(sandbox.run.id)).toEqual([])
  })

  test('never gives up a checkpoint because files could not be recorded; it says so', async () => {
    await using made = makeContext()
    const sandbox = made.addSandbox(5)
    await recordFiles(made.context, sandbox, join(made.folder, 'nowhere'), { plan: [] })
    expect(made.context.catalogue.events.ofRun(sandbox.run.id)).toMatchObject([{ kind: 'files-not-recorded', detail: { message: expect.stringContaining('ENOENT') as unknown } }])
  })

  const restore = async (record: string | undefined): Promise<string> => {
    await using made = makeContext()
    const sandbox = made.addSandbox(5)
    mkdirSync(join(made.folder, 'rollback'))
    if (record !== undefined) writeFileSync(join(made.folder, 'rollback/record.json'), record)
    let error = ''
    await rollBack(made.context, sandbox, { directory: made.folder, manifest }).catch((cause: unknown) => { error = String(cause) })
    return error
  }

  test('restores images without a record as ever', async () => {
    expect(await restore(undefined)).toBe('')
    expect(await restore('{"frozenAt":1,"files":[]}')).toBe('')
  })

  test('restores no image whose record is damaged, and nothing into the node\'s own mounts', async () => {
    expect(await restore('{"frozenAt":1')).toMatch(/the record of the open files is no JSON/)
    expect(await restore(JSON.stringify({ frozenAt: 1, files: [log] }))).toMatch(/the mnt namespace of process .* is the node's own/)
  })
})
