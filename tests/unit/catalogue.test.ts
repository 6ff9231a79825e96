import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, cpSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Catalogue } from '../../daemon/catalogue/catalogue.ts'
import { assumedSeconds } from '../../daemon/core/deadline.ts'
import { openDatabase, readMigrations } from '../../daemon/catalogue/database.ts'
import type { NewMember } from '../../daemon/catalogue/members.ts'
import type { NewRun } from '../../daemon/catalogue/runs.ts'
import { refusal, said } from '../support/errors.ts'

const migrations = join(import.meta.dirname, '..', '..', 'migrations')
let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stint-catalogue-'))
  path = join(folder, 'state', 'catalogue.sqlite')
})
afterEach(() => { rmSync(folder, { recursive: true }) })

const newRun: NewRun = {
  id: 'r1', job_id: 5, uid: 1001, gid: 1001, user: 'alice', options: '', hostname: 'n1', address: '100.64.1.65', script: '/x', outputs: '[]', history: '[]', created_at: 1000,
  hosts: '["n1"]', network: null, launches: '{}',
}
const newMember: NewMember = {
  run_id: 'r1', member: 0, restarts: 0, node: 'n1', state: 'opening', guard_pid: 10, guard_start: 20, boot: '', payload_cgroup: '/c', end_time: null, restore_from: null, opened_at: 1000, nodes: '["n1"]', coordinator: null,
}

describe('the audit record', () => {
  const entry = { at: Date.now(), uid: 1001, pid: 7, channel: 'socket', action: 'save', job: 5, run: 'r', owner: 1001, user: 'alice', checkpoint: 1, image: 'ab', outcome: 'done', detail: {} } as const

  test('is read back by who may see it, job, time and user', () => {
    using catalogue = Catalogue.open(join(folder, 'audit-read.sqlite'), migrations)
    catalogue.audit.add(entry)
    catalogue.audit.add({ ...entry, uid: 0, action: 'drain', job: null, owner: null, user: null, at: entry.at + 10 })
    catalogue.audit.add({ ...entry, uid: null, pid: null, channel: 'daemon', job: 6, owner: 1002, user: 'bob', detail: { why: 'x' } })
    const actions = (filter: Parameters<typeof catalogue.audit.list>[0]): unknown[] => catalogue.audit.list(filter).map(({ action, job }) => [action, job])
    expect(catalogue.audit.list({ visibleTo: 1001 })).toEqual([entry])
    expect(actions({ visibleTo: undefined })).toEqual([['save', 6], ['drain', null], ['save', 5]])
    expect(actions({ visibleTo: 1002 })).toEqual([['save', 6]])
    expect(actions({ visibleTo: undefined, job: 5 })).toEqual([['save', 5]])
    expect(actions({ visibleTo: undefined, since: entry.at + 1 })).toEqual([['drain', null]])
    expect(actions({ visibleTo: undefined, user: 'bob' })).toEqual([['save', 6]])
  })

  test('is neither changed nor shortened before its time', () => {
    const path = join(folder, 'audit-kept.sqlite')
    using catalogue = Catalogue.open(path, migrations)
    const day = 86_400_000
    catalogue.audit.add({ ...entry, at: Date.now() - 400 * day })
    catalogue.audit.add({ ...entry, at: Date.now() - 10 * day })
    const db = new Database(path)
    expect(() => db.exec('UPDATE audit SET uid = 0')).toThrow(/append-only/)
    expect(() => db.exec('DELETE FROM audit')).toThrow(/kept for audit.keep_days/)
    expect(() => db.exec("INSERT OR REPLACE INTO audit SELECT id, at, 0, pid, channel, action, job, run, owner, user, checkpoint, image, outcome, detail FROM audit WHERE id = 2")).toThrow(/append-only/)
    catalogue.audit.prune(365)
    expect(catalogue.audit.list({ visibleTo: undefined })).toHaveLength(1)
    catalogue.audit.prune(7)
    expect(catalogue.audit.list({ visibleTo: undefined })).toEqual([])
    db.close()
  })
})

test('processes of an earlier boot are nobody any more', () => {
  using catalogue = Catalogue.open(join(folder, 'boots.sqlite'), migrations)
  catalogue.runs.upsert(newRun)
  const [old, now, unknown] = ['b1', 'b2', ''].map((boot) => catalogue.members.insert({ ...newMember, boot }).id)
  catalogue.members.endEarlierBoots('b2')
  expect([old, now, unknown].map((id) => catalogue.members.require(id ?? 0).guard_start)).toEqual([-1, newMember.guard_start, newMember.guard_start])
})

describe('opening the catalogue', () => {
  test('makes it for root alone, with every table STRICT', () => {
    openDatabase(path, migrations).close()
    expect([statSync(path).mode & 0o777, statSync(join(folder, 'state')).mode & 0o777]).toEqual([0o600, 0o700])
    const db = new Database(path, { readonly: true })
    const tables = db.prepare<[], { name: string; strict: number }>("SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").all()
    db.close()
    expect(tables.map((t) => t.name).sort()).toEqual(['audit', 'audit_retention', 'checkpoints', 'events', 'images', 'members', 'migrations', 'runs', 'throughput'])
    expect(tables.filter((t) => t.strict !== 1)).toEqual([])
  })

  test('again finds what was written', () => {
    {
      using catalogue = Catalogue.open(path, migrations)
      catalogue.runs.upsert(newRun)
    }
    using catalogue = Catalogue.open(path, migrations)
    expect(catalogue.runs.get('r1')?.user).toBe('alice')
  })

  function changed(change: (directory: string) => void): string {
    const directory = join(folder, 'migrations')
    cpSync(migrations, directory, { recursive: true })
    change(directory)
    return directory
  }
  const next = `${String(readdirSync(migrations).filter((name) => name.endsWith('.sql')).length + 1).padStart(4, '0')}_next.sql`

  test('brings an older schema up to date and keeps the rows', () => {
    openDatabase(path, migrations).close()
    const newer = changed((directory) => { writeFileSync(join(directory, next), 'CREATE TABLE extra (x INTEGER) STRICT;') })
    const db = openDatabase(path, newer)
    expect(db.prepare('SELECT count(*) AS n FROM extra').get()).toEqual({ n: 0 })
    db.close()
  })

  test('that is newer than the daemon is refused and left as it is', async () => {
    openDatabase(path, changed((directory) => { writeFileSync(join(directory, next), 'CREATE TABLE extra (x INTEGER) STRICT;') })).close()
    const error = await refusal(() => openDatabase(path, migrations))
    expect([error.code, error.message, error.hint]).toEqual(['E_CATALOGUE', `the catalogue has migration ${next}, which this stintd does not know`, 'Install the newer stintd again.'])
  })

  test('is refused when a migration was changed after it was applied', async () => {
    openDatabase(path, migrations).close()
    const other = changed((directory) => { writeFileSync(join(directory, '0001_initial.sql'), '-- nothing') })
    expect(await said(() => openDatabase(path, other))).toBe('E_CATALOGUE: migration 0001_initial.sql was changed after it was applied')
  })

  test('leaves no half of a migration that fails', async () => {
    openDatabase(path, migrations).close()
    const broken = changed((directory) => { writeFileSync(join(directory, next), 'CREATE TABLE half (x INTEGER) STRICT; CREATE TABLE runs (x INTEGER);') })
    expect(await said(() => openDatabase(path, broken))).toContain(`E_CATALOGUE: ${path} cannot be used: table runs already exists`)
    const db = openDatabase(path, migrations)
    expect(db.prepare("SELECT name FROM sqlite_schema WHERE name = 'half'").all()).toEqual([])
    db.close()
  })

  test('is refused when a migration is missing in between', async () => {
    const gap = changed((directory) => { writeFileSync(join(directory, '0009_late.sql'), '') })
    expect(() => readMigrations(gap)).toThrow('migration 0009_late.sql is out of order')
    expect((await refusal(() => openDatabase(path, join(folder, 'none')))).code).toBe('E_CATALOGUE')
  })

  test.each(['garbage', 'a truncated file', 'flipped bytes in the header', 'a directory', 'an unreadable parent'])('with %s in its place names the path and the way out', async (what) => {
    mkdirSync(join(folder, 'state'))
    if (what === 'a directory') mkdirSync(path)
    else if (what === 'garbage') writeFileSync(path, 'x'.repeat(5000))
    else if (what === 'an unreadable parent') {
      rmSync(join(folder, 'state'), { recursive: true })
      writeFileSync(join(folder, 'state'), '')
    } else {
      openDatabase(path, migrations).close()
      if (what === 'a truncated file') truncateSync(path, 5000)
      else {
        const fd = openSync(path, 'r+')
        writeSync(fd, Buffer.alloc(200, 0xff), 0, 200, 0)
        closeSync(fd)
      }
    }
    const error = await refusal(() => openDatabase(path, migrations))
    expect([error.code, error.hint]).toEqual(['E_CATALOGUE', expect.stringContaining('Move the catalogue')])
    expect(error.message).toContain(path)
  })

  test('empty, as a power cut may leave it, is made afresh', () => {
    mkdirSync(join(folder, 'state'))
    writeFileSync(path, '')
    openDatabase(path, migrations).close()
    expect(statSync(path).size).toBeGreaterThan(0)
  })

  test('after its writer was killed in the middle has all that was committed and nothing else', async () => {
    const program = `
      import { Catalogue } from ${JSON.stringify(join(import.meta.dirname, '../../daemon/catalogue/catalogue.ts'))}
      const catalogue = Catalogue.open(${JSON.stringify(path)}, ${JSON.stringify(migrations)})
      const run = ${JSON.stringify(newRun)}
      catalogue.runs.upsert(run)
      catalogue.withoutFlush(() => { catalogue.runs.setLaunches('r1', 'book') })
      catalogue.transaction(() => {
        catalogue.runs.upsert({ ...run, id: 'r2' })
        process.kill(process.pid, 'SIGKILL')
      })`
    const [, signal] = await once(spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' }), 'exit') as [number, string]
    expect(signal).toBe('SIGKILL')
    using catalogue = Catalogue.open(path, migrations)
    expect(catalogue.runs.list(undefined).map((r) => r.id)).toEqual(['r1'])
    expect(catalogue.runs.launches('r1')).toBe('book')
  })
})

describe('the catalogue', () => {
  let catalogue: Catalogue

  beforeEach(() => {
    catalogue = Catalogue.open(path, migrations)
    catalogue.runs.upsert(newRun)
  })
  afterEach(() => { catalogue[Symbol.dispose]() })

  test('takes a run over from another node and opens it again', () => {
    catalogue.runs.end('r1', 2000, 0)
    catalogue.runs.upsert({ ...newRun, history: '[1]', outputs: '["/o"]', user: 'mallory' })
    expect(catalogue.runs.get('r1')).toMatchObject({ history: '[1]', outputs: '["/o"]', user: 'alice', ended_at: null, wait_status: null })
  })

  test('lists runs of one user or of all, newest first, and finds the newest of a reused job id', () => {
    catalogue.runs.upsert({ ...newRun, id: 'r2', created_at: 3000 })
    catalogue.runs.upsert({ ...newRun, id: 'r3', uid: 1002, job_id: 6, created_at: 2000 })
    expect(catalogue.runs.list(undefined).map((r) => r.id)).toEqual(['r2', 'r3', 'r1'])
    expect(catalogue.runs.list(1001).map((r) => r.id)).toEqual(['r2', 'r1'])
    expect(catalogue.runs.list(0)).toEqual([])
    expect(catalogue.runs.list(undefined, 1).map((r) => r.id)).toEqual(['r2'])
    expect([catalogue.runs.newestOfJob(5)?.id, catalogue.runs.newestOfJob(7)]).toEqual(['r2', undefined])
  })

  test('moves a member along the table and notes its end once', () => {
    const { id } = catalogue.members.insert(newMember)
    expect(catalogue.members.alive().map((m) => m.id)).toEqual([id])
    catalogue.members.move(id, 'running', 1)
    catalogue.members.move(id, 'running', 2)
    catalogue.members.move(id, 'ended', 3)
    catalogue.members.move(id, 'ended', 4)
    expect(catalogue.members.require(id)).toMatchObject({ state: 'ended', ended_at: 3 })
    expect(catalogue.members.alive()).toEqual([])
  })

  test('refuses an illegal move and stays where it was', async () => {
    const { id } = catalogue.members.insert(newMember)
    expect(await said(() => { catalogue.members.move(id, 'held', 1) })).toBe('E_INTERNAL: illegal move from opening to held')
    expect(catalogue.members.require(id).state).toBe('opening')
    const checkpoint = catalogue.checkpoints.begin('r1', 1, 'request', false, 1)
    expect(await said(() => { catalogue.checkpoints.setRequeued(checkpoint.id) })).toBe('E_INTERNAL: illegal step: a checkpoint that is dumping cannot be requeued')
    expect(catalogue.checkpoints.require(checkpoint.id)).toMatchObject({ phase: 'writing', decision: 'none', requeued: 0 })
  })

  test('rolls a whole transaction back when its last move is illegal', async () => {
    const { id } = catalogue.members.insert(newMember)
    const checkpoint = catalogue.checkpoints.begin('r1', 1, 'request', false, 1)
    await refusal(() => catalogue.transaction(() => {
      catalogue.members.move(id, 'running', 1)
      catalogue.checkpoints.giveUp(checkpoint.id, 'E_BUSY', 'x')
      catalogue.checkpoints.reach(checkpoint.id, 'sealed')
    }))
    expect([catalogue.members.require(id).state, catalogue.checkpoints.require(checkpoint.id)]).toMatchObject(['opening', { phase: 'writing', error_code: null }])
  })

  test('numbers checkpoints by run and refuses a number twice', async () => {
    expect(catalogue.checkpoints.highestNumber('r1')).toBe(0)
    catalogue.checkpoints.begin('r1', 3, 'walltime', false, 1)
    expect(catalogue.checkpoints.highestNumber('r1')).toBe(3)
    expect((await refusal(() => catalogue.checkpoints.begin('r1', 3, 'walltime', false, 1))).code).toBe('SQLITE_CONSTRAINT_UNIQUE')
  })

  test('keeps the times it has when it is told others', () => {
    const { id } = catalogue.checkpoints.begin('r1', 1, 'request', true, 1)
    catalogue.checkpoints.setTimes(id, { frozenMs: 40 })
    catalogue.checkpoints.setTimes(id, { seconds: 1.5 })
    expect(catalogue.checkpoints.require(id)).toMatchObject({ frozen_ms: 40, seconds: 1.5, keep_running: 1 })
  })

  test('notes why a checkpoint was given up', () => {
    const { id } = catalogue.checkpoints.begin('r1', 1, 'request', true, 1)
    catalogue.checkpoints.giveUp(id, 'E_STORE_FULL', 'full')
    expect(catalogue.checkpoints.require(id)).toMatchObject({ phase: 'dropped', decision: 'abort', error_code: 'E_STORE_FULL', error: 'full' })
  })

  test.each([
    ['a member of no run', () => { catalogue.members.insert({ ...newMember, run_id: 'none' }) }, 'SQLITE_CONSTRAINT_FOREIGNKEY'],
    ['a member in no state', () => { catalogue.members.insert({ ...newMember, state: 'asleep' as never }) }, 'SQLITE_CONSTRAINT_CHECK'],
    ['a checkpoint without a known trigger', () => { catalogue.checkpoints.begin('r1', 1, 'whim' as never, false, 1) }, 'SQLITE_CONSTRAINT_CHECK'],
    ['a text where a number belongs', () => { catalogue.runs.upsert({ ...newRun, id: 'x', uid: 'alice' as never }) }, 'SQLITE_CONSTRAINT_DATATYPE'],
  ])('refuses %s', async (_, work, code) => {
    expect((await refusal(work)).code).toBe(code)
  })

  test('has events in the order in which they happened', () => {
    catalogue.events.add('r1', 2, 'b', { x: [1, null] })
    catalogue.events.add('r1', 1, 'a', {})
    expect(catalogue.events.ofRun('r1')).toEqual([{ at: 2, kind: 'b', detail: { x: [1, null] } }, { at: 1, kind: 'a', detail: {} }])
  })

  test('learns what saving takes for each store, from the last forty', () => {
    const mib = 2 ** 20
    const objects = { processes: 3, threads: 4, files: 5, mappings: 6, connections: 7, copies: 8 }
    catalogue.throughput.record('/a', 1, 64 * mib, 0, objects)
    catalogue.throughput.record('/b', 1, 64 * mib, 1000, objects)
    expect(catalogue.throughput.recent('/a')).toEqual([])
    for (let i = 1; i <= 45; i++) catalogue.throughput.record('/a', i, 100 * mib, i * 1000, objects)
    expect(catalogue.throughput.recent('/a')).toEqual(Array.from({ length: 40 }, (_, i) => ({ bytes: 100 * mib, seconds: 45 - i, objectSeconds: assumedSeconds(objects) })))
  })

  test('replaces an image of the same member', () => {
    const { id } = catalogue.checkpoints.begin('r1', 1, 'request', true, 1)
    catalogue.images.put({ checkpoint_id: id, member: 0, path: '/a', bytes: 1 })
    catalogue.images.put({ checkpoint_id: id, member: 0, path: '/b', bytes: 2 })
    expect(catalogue.images.ofCheckpoint(id)).toEqual([{ checkpoint_id: id, member: 0, path: '/b', bytes: 2 }])
  })
})

test('a run that has another member here than before is recorded as that member', () => {
  const catalogue = Catalogue.open(path, migrations)
  catalogue.runs.upsert({ ...newRun, script: '', hostname: 'n2', address: '100.64.1.66' })
  catalogue.runs.upsert(newRun)
  expect(catalogue.runs.get('r1')).toMatchObject({ script: '/x', hostname: 'n1', address: '100.64.1.65' })
  catalogue[Symbol.dispose]()
})
