import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, chownSync, copyFileSync, cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Manifest } from '../../daemon/core/manifest.ts'
import { parseManifest } from '../../daemon/core/manifest.ts'
import { openManifest, sealManifest } from '../../plugins/stores/posix/manifest-file.ts'
import { nodeName } from '../../daemon/linux/node-name.ts'
import { PosixStore } from '../../plugins/stores/posix/store.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import { manifest } from '../support/context.ts'
import { refusal, said } from '../support/errors.ts'

let path: string
let programs: string
let store: PosixStore

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'stint-store-'))
  programs = mkdtempSync(join(tmpdir(), 'stint-programs-'))
  store = new PosixStore(path)
})
afterEach(() => { for (const folder of [path, programs]) rmSync(folder, { recursive: true, force: true }) })

/** A program for a process of its own. */
function programFile(text: string): string {
  writeFileSync(join(programs, 'program.mjs'), text)
  return join(programs, 'program.mjs')
}

/** One of every kind of file an image has. */
const contents: Readonly<Record<string, string | Buffer>> = {
  'criu/pages-1.img': Buffer.alloc(300_000, 'p'),
  'criu/core-1000.img': 'core',
  'criu/empty.img': '',
  'tree.tar': 'tree',
  'carried.tar': 'carried',
  script: '#!/bin/sh\n',
}

function fill(directory: string): void {
  mkdirSync(join(directory, 'criu'))
  for (const [name, text] of Object.entries(contents)) writeFileSync(join(directory, name), text, { mode: 0o644 })
  chownSync(join(directory, 'tree.tar'), 65534, 65534)
}

/** The fixture's image, made by this node. */
const mine = { ...manifest, coordinator: hostname() }

async function seal(change: Partial<Manifest> = {}): Promise<StoredImage> {
  const described = { ...manifest, ...change }
  const key = { ...described, coordinator: hostname() }
  await using draft = store.begin(key, true)
  fill(draft.directory)
  draft.seal({ ...described, files: await draft.finish() })
  store.publish(key)
  const image = store.list(described.job).find((i) => i.manifest.run === described.run && i.manifest.checkpoint === described.checkpoint)
  if (image === undefined) throw new Error('not sealed')
  return image
}

/** A sealed image as another node left it, without the cost of hashing. */
function place(change: Partial<Manifest> = {}): string {
  const described = { ...manifest, ...change }
  const directory = join(path, String(described.job), described.run, String(described.checkpoint).padStart(4, '0'), `m${described.member}`)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'manifest.json'), sealManifest(described))
  return directory
}

function flipByte(file: string, at: number): void {
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  writeFileSync(file, bytes)
}

describe('an image', () => {
  test('is sealed with every file on record, belongs to root alone and verifies', async () => {
    const image = await seal()
    expect(image.directory).toBe(join(path, '5/r1/0001/m0'))
    expect(image.manifest.files.map((f) => [f.path, f.bytes]).sort()).toEqual(Object.entries(contents).map(([name, text]) => [name, text.length]).sort())
    for (const entry of readdirSync(image.directory, { recursive: true, withFileTypes: true })) {
      const { uid, gid, mode } = lstatSync(join(entry.parentPath, entry.name))
      expect([entry.name, uid, gid, mode & 0o777]).toEqual([entry.name, 0, 0, entry.isDirectory() ? 0o700 : 0o600])
    }
    await expect(store.verify(image)).resolves.toBeUndefined()
    expect(readdirSync(join(path, '5/r1'))).toEqual(['0001'])
  })

  test('hashes pages that grow while it is made as they are at the end', async () => {
    await using draft = store.begin(mine, true)
    mkdirSync(join(draft.directory, 'criu'))
    const pages = join(draft.directory, 'criu/pages-1.img')
    for (let i = 0; i < 10; i++) {
      appendFileSync(pages, Buffer.alloc(10_000, i))
      await new Promise((done) => setTimeout(done, 4))
    }
    appendFileSync(pages, 'end')
    draft.seal({ ...manifest, files: await draft.finish() })
    store.publish(mine)
    const [image] = store.list(5)
    expect(image?.manifest.files).toEqual([expect.objectContaining({ path: 'criu/pages-1.img', bytes: 100_003 })])
    if (image !== undefined) await store.verify(image)
  })

  test('is not there until it is sealed, nor after its making was given up', async () => {
    {
      await using draft = store.begin(mine, true)
      fill(draft.directory)
      await draft.finish()
      expect(store.list()).toEqual([])
    }
    expect(readdirSync(join(path, '5/r1'))).toEqual([])
  })

  const pages = 'criu/pages-1.img'
  const damages: Readonly<Record<string, readonly [string, (file: string) => void]>> = {
    'is missing': [pages, (file) => { rmSync(file) }],
    'is empty': [pages, (file) => { truncateSync(file, 0) }],
    'is truncated by a byte': [pages, (file) => { truncateSync(file, 299_999) }],
    'has grown by a byte': [pages, (file) => { appendFileSync(file, 'p') }],
    'should be empty and is not': ['criu/empty.img', (file) => { appendFileSync(file, 'x') }],
    'should be empty and is missing': ['criu/empty.img', (file) => { rmSync(file) }],
    'is a directory': ['script', (file) => { rmSync(file); mkdirSync(file) }],
    'is a link to a copy of itself': ['tree.tar', (file) => { copyFileSync(file, `${path}/copy`); rmSync(file); symlinkSync(`${path}/copy`, file) }],
    ...Object.fromEntries(Object.keys(contents).filter((name) => name !== 'criu/empty.img').map((name) => [`has one flipped byte: ${name}`, [name, (file: string) => { flipByte(file, readFileSync(file).length - 1) }] as const])),
  }

  test('with any file damaged is refused, and the file is named', async () => {
    const image = await seal()
    for (const [damage, [name, inflict]] of Object.entries(damages)) {
      const directory = join(path, 'damaged')
      cpSync(image.directory, directory, { recursive: true })
      inflict(join(directory, name))
      expect([damage, await said(() => store.verify({ ...image, directory }))]).toEqual([damage, `E_IMAGE_DAMAGED: ${name} of checkpoint 1 is not what was written`])
      rmSync(directory, { recursive: true })
    }
    await store.verify(image)
  }, 60_000)

  test('whose directory has gone is damaged or unusable, not fine', async () => {
    const image = await seal()
    rmSync(image.directory, { recursive: true })
    await expect(store.verify(image)).rejects.toThrow()
  })
})

describe('a manifest', () => {
  const text = sealManifest({ ...manifest, files: [{ path: 'a', bytes: 1, xxh3: 'ff' }] })

  test('comes back as it was written, and is JSON for others', () => {
    expect(openManifest(text).manifest).toMatchObject({ ...manifest, files: [{ path: 'a', bytes: 1, xxh3: 'ff' }] })
    expect(JSON.parse(text)).toMatchObject({ version: 1, run: 'r1' })
  })

  test('with any byte flipped is damaged', async () => {
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length; at++) {
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
      const { code } = await refusal(() => openManifest(bytes.toString('latin1')))
      expect([at, code]).toEqual([at, 'E_IMAGE_DAMAGED'])
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    }
  })

  test('cut off anywhere is damaged', async () => {
    for (let length = 0; length < text.length; length++) expect((await refusal(() => openManifest(text.slice(0, length)))).code).toBe('E_IMAGE_DAMAGED')
  })

  test.each([
    ['of a later version', { ...manifest, version: 2 }], ['without its files', { ...manifest, files: undefined }], ['with a text as uid', { ...manifest, uid: '0' }],
    ['with a fraction as checkpoint', { ...manifest, checkpoint: 1.5 }], ['with a file without checksum', { ...manifest, files: [{ path: 'a', bytes: 1 }] }],
    ['that is a list', []], ['that is nothing', null],
  ])('%s is refused although it is JSON', async (_, value) => {
    expect(await said(() => parseManifest(JSON.stringify(value)))).toBe('E_IMAGE_DAMAGED: the manifest lacks fields or is of another version')
  })

  test('that is no JSON is refused', async () => {
    expect(await said(() => parseManifest('{'))).toBe('E_IMAGE_DAMAGED: the manifest is no JSON')
  })

  test.each(['flipped', 'truncated', 'empty', 'missing', 'a directory', 'unsealed'])('in the store that is %s makes its directory no image', (what) => {
    const file = join(place(), 'manifest.json')
    if (what === 'flipped') flipByte(file, 100)
    else if (what === 'truncated') truncateSync(file, 100)
    else if (what === 'empty') truncateSync(file, 0)
    else if (what === 'unsealed') writeFileSync(file, JSON.stringify(manifest))
    else rmSync(file)
    if (what === 'a directory') mkdirSync(file)
    expect(store.list(5)).toEqual([])
  })
})

describe('the store', () => {
  test('lists images of one job or of all: runs by their last image, images of a run by number whatever the clocks say', () => {
    place({ checkpoint: 1, createdAt: 9000, node: 'n1' })
    place({ checkpoint: 2, createdAt: 5000, node: 'n2-with-a-slow-clock' })
    place({ job: 6, run: 'r2', createdAt: 7000 })
    const seen = (images: readonly StoredImage[]): unknown => images.map(({ manifest: m }) => [m.job, m.checkpoint])
    expect(seen(store.list())).toEqual([[5, 2], [5, 1], [6, 1]])
    expect(seen(store.list(6))).toEqual([[6, 1]])
    expect(store.list(7)).toEqual([])
  })

  test.each(['5/r1/0002', '5/r9/0001', '9/r1/0001', '5/r1/0001/m1'])('does not list an image that was moved to %s', (to) => {
    place()
    const from = to.endsWith('m1') ? '5/r1/0001/m0' : '5/r1/0001'
    mkdirSync(join(path, to, '..'), { recursive: true })
    renameSync(join(path, from), join(path, to))
    expect(store.list()).toEqual([])
  })

  test('passes over what is none of its own', () => {
    place()
    writeFileSync(join(path, 'README'), '')
    writeFileSync(join(path, '7'), '')
    mkdirSync(join(path, '8/r/0001/m0'), { recursive: true })
    mkdirSync(join(path, '5/r1/0002x'))
    expect(store.list().map((i) => i.manifest.job)).toEqual([5])
  })

  test('that is not there has no images', () => {
    rmSync(path, { recursive: true })
    expect(store.list()).toEqual([])
    expect(store.removeUnfinished()).toBe(0)
  })

  test('removes one checkpoint, and a run with its job', () => {
    place({ checkpoint: 1 })
    place({ checkpoint: 2 })
    store.remove({ job: 5, run: 'r1', checkpoint: 1 })
    store.remove({ job: 5, run: 'r1', checkpoint: 7 })
    expect(store.list().map((i) => i.manifest.checkpoint)).toEqual([2])
    store.removeRun(5, 'r1')
    store.removeRun(5, 'r1')
    expect(readdirSync(path)).toEqual([])
  })

  test('keeps the job while another run of it has images', () => {
    place()
    place({ run: 'r2' })
    store.removeRun(5, 'r1')
    expect(store.list().map((i) => i.manifest.run)).toEqual(['r2'])
  })

  test('counts the tries of a checkpoint on whatever node, and its images stay whole', async () => {
    const image = await seal()
    const other = new PosixStore(path)
    expect([store.count(manifest, 'attempt'), other.count(manifest, 'attempt'), store.count(manifest, 'move')]).toEqual([1, 2, 1])
    store.clearAttempts(manifest)
    expect([store.counted(manifest, 'attempt'), other.counted(manifest, 'move')]).toEqual([0, 0])
    await store.verify(image)
    expect(store.list()).toHaveLength(1)
  })

  test('removes what this node left unfinished, not what another node is making, nor what is sealed', () => {
    place()
    const own = new PosixStore(path, 0, nodeName('node7.cluster.example.org'))
    for (const name of ['.unfinished-node7-0002', '.unfinished-other-0003']) mkdirSync(join(path, '5/r1', name, 'm0'), { recursive: true })
    expect(own.removeUnfinished()).toBe(1)
    expect(readdirSync(join(path, '5/r1')).sort()).toEqual(['.unfinished-other-0003', '0001'])
  })

  test('has nothing to restore after its writer was killed in the middle, and takes the next image', async () => {
    const program = `
      import { PosixStore } from ${JSON.stringify(join(import.meta.dirname, '../../plugins/stores/posix/store.ts'))}
      import { writeFileSync } from 'node:fs'
      const draft = new PosixStore(${JSON.stringify(path)}).begin({ job: 5, run: 'r1', checkpoint: 1, member: 0, coordinator: '${hostname()}' })
      writeFileSync(draft.directory + '/tree.tar', 'half')
      await draft.finish()
      process.kill(process.pid, 'SIGKILL')`
    await once(spawn(process.execPath, [programFile(program)], { stdio: 'inherit' }), 'exit')
    expect(existsSync(join(path, `5/r1/.unfinished-${hostname()}-0001/m0/tree.tar`))).toBe(true)
    expect(store.list()).toEqual([])
    expect((await seal()).manifest.checkpoint).toBe(1)
  })

  test('publishes a checkpoint of two members at once, whoever of them asks, and not before', async () => {
    const other = { ...mine, member: 1 }
    await using first = store.begin(mine, true)
    await using second = store.begin(other, true)
    for (const [draft, member] of [[first, 0], [second, 1]] as const) {
      fill(draft.directory)
      draft.seal({ ...manifest, member, members: [0, 1], files: await draft.finish() })
    }
    expect(store.list()).toEqual([])
    store.publish(other)
    store.publish(mine)
    expect(store.list().map((image) => image.manifest.member).sort()).toEqual([0, 1])
    expect(store.find(other)?.manifest.member).toBe(1)
  })

  test('drops the part of one member alone when only that is given up', async () => {
    await using kept = store.begin(mine, true)
    await store.begin({ ...mine, member: 1 }, true)[Symbol.asyncDispose]()
    expect(existsSync(kept.directory)).toBe(true)
  })

  test('refuses to publish over a checkpoint that is there', async () => {
    const image = await seal()
    await using draft = store.begin(mine, true)
    fill(draft.directory)
    const files = await draft.finish()
    draft.seal({ ...manifest, files })
    expect(await said(() => { store.publish(mine) })).toContain('E_STORE_UNUSABLE')
    await store.verify(image)
  })
})

describe('a place for the store', () => {
  test('of root with mode 0700 is usable', () => {
    expect(() => { store.assertUsable(1) }).not.toThrow()
  })

  test.each(['missing', 'a file', 'a link to a good one', 'of another user', 'readable for others', 'writable for a group'])('that is %s is refused', async (what) => {
    if (what === 'missing' || what === 'a file' || what.startsWith('a link')) {
      renameSync(path, `${path}.moved`)
      if (what === 'a file') writeFileSync(path, '')
      else if (what !== 'missing') symlinkSync(`${path}.moved`, path)
    } else if (what === 'of another user') chownSync(path, 65534, 0)
    else chmodSync(path, what.startsWith('readable') ? 0o704 : 0o720)
    try {
      expect(await said(() => { store.assertUsable(1) })).toContain('E_STORE_UNUSABLE')
    } finally {
      rmSync(`${path}.moved`, { recursive: true, force: true })
    }
  })

  test('without room for the image is full, and says how much there is', async () => {
    expect(await said(() => { store.assertUsable(2 ** 60) })).toMatch(/^E_STORE_FULL: the image needs 1099511627776 MiB, .* has \d+ MiB free$/)
  })
})

/** Runs statements on a store on a small tmpfs in a mount namespace of its own; prints what `report` is given. */
async function onSmallDisk(statements: string): Promise<unknown> {
  const program = `
    import { PosixStore } from ${JSON.stringify(join(import.meta.dirname, '../../plugins/stores/posix/store.ts'))}
    import { execFileSync } from 'node:child_process'
    import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
    const path = ${JSON.stringify(path)}, manifest = ${JSON.stringify(manifest)}, mine = ${JSON.stringify(mine)}
    const store = new PosixStore(path)
    const code = async (work) => { try { await work(); return 'done' } catch (error) { return error.code } }
    const report = (value) => process.stdout.write(JSON.stringify(value))
    ${statements}`
  const mount = ['--mount', '/bin/sh', '-ec', 'mount -t tmpfs -o size=1m,mode=0700 none "$1"; shift; exec "$@"', 'sh', path, process.execPath, programFile(program)]
  const { stdout } = await execa('/usr/bin/unshare', mount, { stderr: 'inherit' })
  return JSON.parse(stdout)
}

describe('a place among the writers', () => {
  const taken = (at: PosixStore): Disposable[] => [at.takeWriterSlot(1), at.takeWriterSlot(2), at.takeWriterSlot(3)].filter((slot) => slot !== undefined)

  test('is there for as many as the site lets write at once, on whatever node, and for the next when one has ended', () => {
    const here = new PosixStore(path, 2)
    const [first, ...others] = taken(here)
    expect(others).toHaveLength(1)
    expect(new PosixStore(path, 2).takeWriterSlot(4)).toBeUndefined()
    first?.[Symbol.dispose]()
    expect(taken(new PosixStore(path, 2))).toHaveLength(1)
  })

  test('is not there for one user beyond half of them: others find one', () => {
    const here = new PosixStore(path, 4)
    const ofOne = [1, 2, 3].map(() => here.takeWriterSlot(7))
    expect(ofOne.map((slot) => slot !== undefined)).toEqual([true, true, false])
    expect(here.takeWriterSlot(8)).toBeDefined()
    ofOne[0]?.[Symbol.dispose]()
    expect(here.takeWriterSlot(7)).toBeDefined()
    expect(new PosixStore(path, 1).takeWriterSlot(9)).toBeUndefined()
  })

  test('is there for anybody without a limit', () => {
    expect(taken(store)).toHaveLength(3)
    expect(readdirSync(path)).toEqual([])
  })

  test('comes back when its holder was killed', async () => {
    const here = new PosixStore(path, 1)
    here.takeWriterSlot(4)?.[Symbol.dispose]()
    const holder = spawn('flock', [join(path, '.slots', '1'), 'sh', '-c', 'echo held; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
    await once(holder.stdout, 'data')
    expect(here.takeWriterSlot(4)).toBeUndefined()
    process.kill(-(holder.pid ?? NaN), 'SIGKILL')
    await once(holder, 'close') // Its output is closed when all of it have ended.
    expect(here.takeWriterSlot(4)).toBeDefined()
  })

  test('is no image', () => {
    new PosixStore(path, 1).takeWriterSlot(4)
    expect([store.list(), store.removeUnfinished()]).toEqual([[], 0])
  })
})

describe('a disk', () => {
  test('that fills up while the image is written is told as full, and the sealed image before it stays', async () => {
    expect(await onSmallDisk(`
      {
        await using draft = store.begin(mine, true)
        writeFileSync(draft.directory + '/a', 'x')
        draft.seal({ ...manifest, files: await draft.finish() })
        store.publish(mine)
      }
      const next = { ...manifest, checkpoint: 2 }
      let full
      {
        await using draft = store.begin({ ...mine, checkpoint: 2 }, true)
        const written = await code(() => writeFileSync(draft.directory + '/b', Buffer.alloc(2 ** 21)))
        const files = await draft.finish()
        full = [written, await code(() => draft.seal({ ...next, files }))]
      }
      await store.verify(store.list()[0])
      report([full, store.list().map((i) => i.manifest.checkpoint), await code(() => store.assertUsable(2 ** 21)), await code(() => store.assertUsable(2 ** 16))])
    `)).toEqual([['ENOSPC', 'E_STORE_FULL'], [1], 'E_STORE_FULL', 'done'])
  })

  test('that is full before the image is begun is told as full', async () => {
    expect(await onSmallDisk(`
      execFileSync('/bin/mount', ['-o', 'remount,nr_inodes=2', path])
      writeFileSync(path + '/last', '')
      report(await code(() => store.begin(mine, true)))
    `)).toBe('E_STORE_FULL')
  })

  test('that is mounted read-only is unusable', async () => {
    expect(await onSmallDisk(`
      execFileSync('/bin/mount', ['-o', 'remount,ro', path])
      report([await code(() => store.assertUsable(1)), await code(() => store.begin(mine, true))])
    `)).toEqual(['E_STORE_UNUSABLE', 'E_STORE_UNUSABLE'])
  })
})
