import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { chmodSync, chownSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { drop, formatKeys, parseKeys, rotate, sealingKey, stage, type StoreKeys } from '../../daemon/core/store-keys.ts'
import { isBehindForged, nextWay } from '../../daemon/core/ways-back.ts'
import { Keyring, changeKeys, createKeys, newKey, readKeys } from '../../daemon/key-file.ts'
import { keyFault } from '../../daemon/node/doctor.ts'
import type { Manifest } from '../../daemon/core/manifest.ts'
import { openManifest, sealManifest } from '../../plugins/stores/posix/manifest-file.ts'
import { FileMac } from '../../plugins/stores/posix/macs.ts'
import { PosixStore } from '../../plugins/stores/posix/store.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import { alice, manifest } from '../support/context.ts'
import { refusal, said } from '../support/errors.ts'

let folder: string
let file: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stint-keys-'))
  file = join(folder, 'store.key')
})
afterEach(() => { rmSync(folder, { recursive: true, force: true }) })

const uses = (keys: StoreKeys): string[] => keys.map(({ use }) => use)

describe('the site\'s keys', () => {
  test('are staged, rotated and dropped; one seals and all are accepted', async () => {
    const [first, second, third] = [newKey('seal'), newKey('seal'), newKey('seal')]
    const rotated = rotate([first], second)
    expect([sealingKey(rotated)?.id, uses(rotated)]).toEqual([second.id, ['seal', 'read']])
    const staged = stage(rotated, third)
    expect([sealingKey(staged)?.id, uses(staged)]).toEqual([second.id, ['seal', 'read', 'next']])
    expect(await said(() => stage(staged, newKey('next')))).toMatch(/^E_BAD_REQUEST: key [0-9a-f]{16} is staged already/)
    const taken = rotate(staged, newKey('seal'))
    expect([sealingKey(taken)?.id, uses(taken)]).toEqual([third.id, ['read', 'read', 'seal']])
    expect(drop(taken, first.id).map(({ id }) => id)).toEqual([second.id, third.id])
    expect(await said(() => drop(taken, third.id))).toMatch(/new images are sealed with key/)
    expect(await said(() => drop(taken, '0000000000000000'))).toMatch(/there is no store key/)
    const onlyStaged = stage([], first)
    expect(await said(() => drop(onlyStaged, first.id))).toMatch(/is the only one/)
  })

  test('come back from their file, which no other user can read and no second key overwrites', async () => {
    const keys = [newKey('seal'), newKey('read'), newKey('next')]
    createKeys(file, keys)
    const { uid, mode } = statSync(file)
    expect([uid, mode & 0o7777, readKeys(file), readdirSync(folder)]).toEqual([0, 0o600, keys, ['store.key']])
    expect(await said(() => { createKeys(file, [newKey('seal')]) })).toMatch(/^E_BAD_REQUEST: .*is there already/)
    expect(readKeys(file)).toEqual(keys)
    expect(changeKeys(file, (now) => rotate(now, newKey('seal'))).length).toBe(3)
    expect([uses(readKeys(file) ?? []), statSync(file).mode & 0o7777, readdirSync(folder)]).toEqual([['read', 'read', 'seal'], 0o600, ['store.key']])
    expect(await said(() => changeKeys(join(folder, 'none'), (now) => now))).toMatch(/^E_BAD_REQUEST: there is no key file/)
    expect(readKeys(join(folder, 'none'))).toBeUndefined()
  })

  test.each([
    ['readable for a group', () => { chmodSync(file, 0o640) }], ['readable for all', () => { chmodSync(file, 0o604) }], ["another user's", () => { chownSync(file, alice, alice) }],
    ['a link to a good one', () => { copyFileSync(file, `${file}.2`); chmodSync(`${file}.2`, 0o600); rmSync(file); symlinkSync(`${file}.2`, file) }],
    ['a directory', () => { rmSync(file); mkdirSync(file) }], ['empty', () => { writeFileSync(file, '') }], ['cut off', () => { writeFileSync(file, readFileSync(file, 'utf8').slice(0, -10)) }],
    ['with another secret under the same id', () => { const [a, b] = [newKey('seal'), newKey('seal')]; writeFileSync(file, formatKeys([{ ...a, secret: b.secret }])) }],
    ['with two that seal', () => { writeFileSync(file, formatKeys([newKey('seal'), newKey('seal')])) }],
    ['with one twice', () => { const key = newKey('seal'); writeFileSync(file, formatKeys([key, { ...key, use: 'read' }])) }],
    ['huge', () => { writeFileSync(file, '#'.repeat(70_000)) }],
  ])('in a file that is %s are refused, and no secret is told', async (_, spoil) => {
    const keys = [newKey('seal')]
    createKeys(file, keys)
    spoil()
    const error = await refusal(() => readKeys(file))
    expect(error.code).toBe('E_BAD_CONFIG')
    expect(JSON.stringify([error.message, error.hint])).not.toContain(Buffer.from(keys[0]?.secret ?? []).toString('base64').slice(0, 20))
  })

  test('with any byte of a line flipped are refused or are the same keys', () => {
    const text = formatKeys([newKey('seal')])
    const start = text.indexOf('\nseal') + 1
    const idOf = (): string => text.slice(start + 5, start + 21)
    for (let at = start; at < text.length; at++) {
      const bytes = Buffer.from(text)
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
      writeFileSync(file, bytes, { mode: 0o600 })
      let secret: string | undefined
      try {
        secret = Buffer.from(readKeys(file)?.[0]?.secret ?? []).toString('base64')
      } catch {
        continue
      }
      expect([at, secret]).toEqual([at, Buffer.from(parseKeys(text, idOf)[0]?.secret ?? []).toString('base64')])
    }
  })

  test('are read again when the file is replaced; one that is spoilt or gone leaves them in force, and is told', () => {
    createKeys(file, [newKey('seal')])
    const told: string[] = []
    const keyring = new Keyring(file, ({ message }) => { told.push(message) })
    const changed = changeKeys(file, (now) => rotate(now, newKey('seal')))
    expect(keyring.current()).toEqual(changed)
    chmodSync(file, 0o644)
    expect([keyring.current(), keyring.fault?.code]).toEqual([changed, 'E_BAD_CONFIG'])
    chmodSync(file, 0o600)
    expect([keyring.current(), keyring.fault]).toEqual([changed, undefined])
    rmSync(file)
    expect([keyring.current(), keyring.fault?.message]).toEqual([changed, `${file} is gone`])
    expect(told).toEqual([`${file} must be a file of root with mode 0600`, `${file} is gone`])
  })

  test('that are there from the start and spoilt keep the daemon from starting', async () => {
    createKeys(file, [newKey('seal')])
    chmodSync(file, 0o644)
    expect(await said(() => new Keyring(file, () => undefined))).toMatch(/^E_BAD_CONFIG/)
  })

  test('that differ between nodes are told, with the key that is missing where', () => {
    const [a, b] = [newKey('seal'), newKey('read')]
    expect(keyFault('n2', [a, b], [a, b])).toBeUndefined()
    expect(keyFault('n2', [a], [a, b])?.found).toBe(`n2: lacks store key ${b.id}`)
    expect(keyFault('n2', [a, b], [a])?.found).toBe(`n2: has store key ${b.id}, which this node lacks`)
    expect(keyFault('n2', [{ ...a, use: 'read' }, { ...b, use: 'seal' }], [a, b])?.found).toBe(`n2: seals with store key ${b.id}, this node with ${a.id}`)
    expect(keyFault('n2', [], [])).toBeUndefined()
  })
})

describe('a manifest with a MAC', () => {
  const key = newKey('seal')
  const text = sealManifest({ ...manifest, salt: '00'.repeat(16), files: [{ path: 'a', bytes: 1, xxh3: 'ff', gmac: '00' }] }, key)

  test('comes back with the key that vouches for it, also when another one seals now', () => {
    expect(openManifest(text, [key])).toMatchObject({ keyId: key.id, manifest: { run: 'r1' } })
    expect(openManifest(text, rotate([key], newKey('seal'))).keyId).toBe(key.id)
    expect(openManifest(text, [key]).manifest).not.toHaveProperty('mac')
  })

  test('with any byte flipped is damaged or forged', async () => {
    const bytes = Buffer.from(text)
    const seen = new Set<string>()
    for (let at = 0; at < bytes.length; at++) {
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
      const { code } = await refusal(() => openManifest(bytes.toString('latin1'), [key]))
      seen.add(code)
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    }
    expect([...seen].sort()).toEqual(['E_IMAGE_DAMAGED', 'E_IMAGE_FORGED'])
  })

  test.each([
    ['made anew without a key', sealManifest(manifest), /no key of this site/],
    ['made with a key of the forger', sealManifest(manifest, newKey('seal')), /sealed with store key [0-9a-f]{16}, and this node does not have it/],
    ["made with a key of the forger under the site's id", sealManifest(manifest, { ...newKey('seal'), id: key.id }), /changed by somebody/],
  ])('%s is forged', async (_, forged, message) => {
    const error = await refusal(() => openManifest(forged, [key]))
    expect([error.code, error.message]).toEqual(['E_IMAGE_FORGED', expect.stringMatching(message)])
  })

  test('cannot be trusted by a node without keys; one without a MAC can, until a key seals', async () => {
    expect((await refusal(() => openManifest(text))).code).toBe('E_IMAGE_FORGED')
    const plain = sealManifest(manifest)
    expect(openManifest(plain).keyId).toBeUndefined()
    expect(openManifest(plain, [{ ...key, use: 'next' }]).keyId).toBeUndefined()
  })
})

describe('an image that a key vouches for', () => {
  let keys: StoreKeys
  let store: PosixStore
  const contents = { 'criu/pages-1.img': Buffer.alloc(100_000, 'p'), 'criu/core-1000.img': Buffer.from('core'), 'tree.tar': Buffer.from('tree') }

  beforeEach(() => {
    keys = [newKey('seal')]
    store = new PosixStore(join(folder, 'store'), 0, hostname(), () => keys)
    mkdirSync(join(folder, 'store'), { mode: 0o700 })
  })

  async function seal(change: Partial<Manifest> = {}, by: PosixStore = store): Promise<StoredImage> {
    const described = { ...manifest, ...change }
    const key = { ...described, coordinator: hostname() }
    await using draft = by.begin(key, true)
    mkdirSync(join(draft.directory, 'criu'))
    for (const [name, bytes] of Object.entries(contents)) writeFileSync(join(draft.directory, name), bytes)
    draft.seal({ ...described, files: await draft.finish() })
    by.publish(key)
    const image = by.find(key)
    if (image === undefined) throw new Error('not sealed')
    return image
  }

  const errorOf = (job = 5): string[] => store.unreadable(job).map(({ checkpoint, error }) => `${checkpoint} ${error.code}`)

  /** What somebody does who can write to the store and knows Stint, but has no key. */
  async function forgeFile(image: StoredImage, path: string): Promise<void> {
    const bytes = readFileSync(join(image.directory, path))
    bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0)
    writeFileSync(join(image.directory, path), bytes)
    const theirs = new PosixStore(join(folder, 'theirs'))
    await using draft = theirs.begin({ ...manifest, coordinator: hostname() }, false)
    cpSync(image.directory, draft.directory, { recursive: true })
    rmSync(join(draft.directory, 'manifest.json'))
    const sums = new Map((await draft.finish()).map((one) => [one.path, one.xxh3]))
    const files = image.manifest.files.map((one) => ({ ...one, xxh3: sums.get(one.path) ?? '' }))
    writeFileSync(join(image.directory, 'manifest.json'), sealManifest({ ...image.manifest, files }))
  }

  test('verifies, and names its key', async () => {
    const image = await seal()
    expect([image.keyId, image.manifest.files.every(({ gmac }) => /^[0-9a-f]{32}$/.test(gmac ?? ''))]).toEqual([keys[0]?.id, true])
    await store.verify(image)
    expect(store.unreadable()).toEqual([])
  })

  test('is forged in other hands: manifest made anew, or moved to another number, run, job or member', async () => {
    const image = await seal()
    await forgeFile(image, 'criu/core-1000.img')
    expect([store.list(), errorOf()]).toEqual([[], ['1 E_IMAGE_FORGED']])
    for (const to of ['5/r1/0002/m0', '5/r9/0001/m0', '9/r1/0001/m0', '5/r1/0001/m1']) {
      rmSync(join(folder, 'store'), { recursive: true })
      const { directory } = await seal()
      mkdirSync(join(folder, 'store', to, '..'), { recursive: true })
      renameSync(directory, join(folder, 'store', to))
      const job = Number(to.split('/')[0])
      expect([to, store.list(job).length, errorOf(job).at(-1)?.slice(2)]).toEqual([to, 0, 'E_IMAGE_FORGED'])
    }
  })

  test('with a file changed so that its checksum is right, or one more, is forged; with a file that is just damaged it is damaged', async () => {
    const image = await seal()
    const damaged = { ...image, directory: join(folder, 'damaged') }
    cpSync(image.directory, damaged.directory, { recursive: true })
    writeFileSync(join(damaged.directory, 'tree.tar'), 'trea')
    expect((await refusal(async () => store.verify(damaged))).code).toBe('E_IMAGE_DAMAGED')
    // XXH3 is no obstacle: its sums are set to what they are now in the manifest that verify believes.
    const { gmac, xxh3 } = image.manifest.files.find(({ path }) => path === 'tree.tar') ?? {}
    const files = image.manifest.files.map((one) => (one.path === 'criu/core-1000.img' ? { ...one, gmac: gmac ?? '' } : one))
    expect([(await refusal(async () => store.verify({ ...image, manifest: { ...image.manifest, files } }))).code, xxh3 === undefined]).toEqual(['E_IMAGE_FORGED', false])
    writeFileSync(join(image.directory, 'criu/iptables-1.img'), 'rules')
    expect(await said(async () => store.verify(image))).toMatch(/E_IMAGE_FORGED: criu\/iptables-1.img of checkpoint 1 is not one of its files/)
    rmSync(join(image.directory, 'criu/iptables-1.img'))
    await store.verify(image)
    symlinkSync('/etc/shadow', join(image.directory, 'criu/more.img'))
    expect((await refusal(async () => store.verify(image))).code).toBe('E_IMAGE_FORGED')
  })

  test('of a key that was rotated is accepted, adopted by the new one, and then no more needs the old one; a dropped one is refused', async () => {
    const image = await seal()
    const [old] = keys
    keys = rotate(keys, newKey('seal'))
    expect(store.list(5)).toHaveLength(1)
    await store.verify(image)
    const dropped = drop(keys, old?.id ?? '')
    const before = keys
    keys = dropped
    expect([store.list(5), errorOf()]).toEqual([[], ['1 E_IMAGE_FORGED']])
    keys = before
    expect(await store.adopt()).toEqual([{ job: 5, run: 'r1', checkpoint: 1, member: 0, error: undefined }])
    keys = dropped
    const [adopted] = store.list(5)
    expect(adopted?.keyId).toBe(sealingKey(keys)?.id)
    if (adopted !== undefined) await store.verify(adopted)
    expect(await store.adopt()).toEqual([])
  })

  test('that was made before there was a key is refused until it is adopted; a damaged or forged one is never adopted', async () => {
    const site = keys
    keys = []
    await seal()
    const bad = await seal({ checkpoint: 2 })
    writeFileSync(join(bad.directory, 'tree.tar'), 'trea')
    expect(store.list(5)).toHaveLength(2)
    expect(await said(() => store.adopt())).toMatch(/^E_BAD_REQUEST: this node has no store key/)
    keys = site
    expect(store.list(5)).toEqual([])
    const forged = await seal({ checkpoint: 3 })
    writeFileSync(join(forged.directory, 'manifest.json'), sealManifest({ ...forged.manifest, uid: 0 }, { ...newKey('seal'), id: site[0]?.id ?? '' }))
    expect((await store.adopt(5)).map(({ checkpoint, error }) => [checkpoint, error?.code]).sort()).toEqual([[1, undefined], [2, 'E_IMAGE_DAMAGED']])
    const [adopted] = store.list(5)
    expect(adopted?.manifest.checkpoint).toBe(1)
    if (adopted !== undefined) await store.verify(adopted)
    expect(errorOf()).toEqual(['2 E_IMAGE_FORGED', '3 E_IMAGE_FORGED'])
  })

  test('is handed over to another job with a MAC of its own', async () => {
    await seal()
    keys = rotate(keys, newKey('seal'))
    store.handOver(5, 'r1', 6)
    const [image] = store.list(6)
    expect(image?.manifest).toMatchObject({ job: 6, restarts: -1 })
    if (image !== undefined) await store.verify(image)
  })
})

describe('the MAC of a file', () => {
  test('is the same however the file is cut, and another one for any other byte, path, image or key', () => {
    const [key, other] = [newKey('seal').secret, newKey('seal').secret]
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251))
    const mac = (pieces: readonly Buffer[], path = 'a', by: Uint8Array = key): string => {
      const made = new FileMac(by, path)
      for (const piece of pieces) made.update(piece)
      return made.digest()
    }
    const whole = mac([bytes])
    for (const cut of [0, 1, 15, 16, 17, 999, 1000]) expect(mac([bytes.subarray(0, cut), bytes.subarray(cut)])).toBe(whole)
    for (let at = 0; at < bytes.length; at++) {
      const flipped = Buffer.from(bytes)
      flipped.writeUInt8(flipped.readUInt8(at) ^ 0x80, at)
      expect(mac([flipped])).not.toBe(whole)
    }
    expect(new Set([whole, mac([bytes], 'b'), mac([bytes], 'a', other), mac([bytes.subarray(1)]), mac([bytes, Buffer.alloc(1)]), mac([])]).size).toBe(6)
  })
})

describe('a forged checkpoint', () => {
  const forged = { checkpoint: 2, final: true, forged: true }

  test('is not passed over for an older one, but a newer one that is sound is taken', () => {
    expect([1, 2, 3].map((checkpoint) => isBehindForged(checkpoint, [forged]))).toEqual([true, true, false])
    expect(isBehindForged(1, [{ checkpoint: 2, final: true }])).toBe(false)
  })

  test('holds the job, whatever its owner wanted; one whose key is missing here may go on elsewhere', () => {
    expect(nextWay([forged], true, 'start')).toBe('hold')
    expect(nextWay([forged, { checkpoint: 1, final: false }], true, 'start')).toBe('hold')
    expect(nextWay([{ ...forged, final: false }], true, 'start')).toBe('elsewhere')
    expect(nextWay([{ ...forged, final: false }], false, 'start')).toBe('hold')
  })
})
