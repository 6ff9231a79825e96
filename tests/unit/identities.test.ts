import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { describe, expect, test } from '@jest/globals'
import { changedIdentities, forgedIdentities, parseIdentities, replacedFiles, tellDifferences, type Identities, type ImageIdentity } from '../../daemon/core/identities.ts'
import { coreIdentity } from '../../plugins/engines/criu/core-images.ts'
import { buildHelpers } from '../support/helpers.ts'
import { execa } from 'execa'
import { join } from 'node:path'
import { rmSync } from 'node:fs'

/** Words of a thread of an ordinary job, by the position in the helper's line. */
const ordinary = ['1001,1001,1001,1001', '100,100,100,100', '100,2000', '0000000000000000', '0000000000000000', '0000000000000000', '000001ffffffffff', '0000000000000000', '1', '2', '1', 'user'] as const

interface Changes {
  readonly node?: string
  readonly thread?: Readonly<Record<number, string>>
  readonly lines?: readonly string[]
}

const files = [
  'file 1001 cwd 0:50:0 77 1001 100 40755 2 30 /shared/home/alice', 'file 1001 root 8:1:0 2 0 0 40755 20 20 /', 'file 1001 exe 8:1:0 400 0 0 100755 1 20 /usr/bin/python3',
  'file 1001 0 0:6:1048579 5 0 0 20666 1 20 /dev/null', 'file 1001 3 0:50:0 78 1001 100 100644 1 30 /shared/home/alice/data', 'file 1001 4 0:14:0 99 1001 100 10600 1 15 pipe:[99]',
  'file 1001 5 0:60:0 12 1001 100 100600 1 31 /tmp/own', 'file 1001 6 0:50:0 13 1001 100 100600 0 30 /shared/home/alice/gone%20(deleted)',
  'file 1001 7 0:70:0 4000 0 0 100400 1 32 /proc/1001/environ',
  'file 1001 map:7f0000000000-7f0000004000 8:1:0 500 0 0 100755 1 20 /usr/lib/libc.so.6',
]

function listing({ node = '000001ffffffffff', thread = {}, lines = files }: Changes = {}): string {
  const identity = ordinary.map((word, at) => thread[at] ?? word).join(' ')
  return [`node ${node}`, 'mount 20 ext4 /', 'mount 30 nfs4 /shared', 'mount 31 tmpfs /tmp', 'mount 32 proc /proc', `identity 1000 1000 ${ordinary.map((word, at) => (at === 6 ? thread[at] ?? word : word)).join(' ')}`, `identity 1001 1001 ${identity}`, ...lines, 'done', ''].join('\n')
}

function read(changes: Changes = {}): Identities {
  const found = parseIdentities(listing(changes))
  if (found === undefined) throw new Error('not understood')
  return found
}

const was = read()

/** The listing with one file changed. */
function withFile(slot: string, change: (line: string) => string): Identities {
  return read({ lines: files.map((line) => (line.startsWith(`file 1001 ${slot} `) ? change(line) : line)) })
}

describe('identities after a restore', () => {
  test('that are as they were are no difference', () => {
    expect(changedIdentities(was, read(), 1001)).toEqual([])
  })

  test.each([
    [0, '0,0,0,0'], [0, '1001,1001,1001,0'], [0, '1001,0,1001,1001'], [0, '1001,1001,0,1001'], [1, '0,100,100,100'], [1, '100,100,100,0'], [2, '0,100,2000'], [2, '100'], [2, '-'],
    [3, '0000000000000001'], [4, '0000000000000001'], [5, '0000000000200000'], [7, '0000000000000400'], [8, '0'], [9, '0'], [9, '1'], [10, '0'], [10, '2'],
  ])('tell of word %d that is now %s', (at, word) => {
    const differences = changedIdentities(was, read({ thread: { [at]: word } }), 1001)
    expect(differences).toHaveLength(1)
    expect(differences[0]).toMatch(/^thread 1001 of PID 1001: .* now .*, at the freeze /)
  })

  test('may have groups in another order, a bounding set as small as the node\'s, and be closed to debuggers', () => {
    expect(changedIdentities(was, read({ thread: { 2: '2000,100' } }), 1001)).toEqual([])
    expect(changedIdentities(was, read({ node: '000001fffeffffff', thread: { 6: '000001fffeffffff' } }), 1001)).toEqual([])
    expect(changedIdentities(was, read({ node: '000001fffeffffff', thread: { 6: '000001fffcffffff' } }), 1001)).toHaveLength(2)
    for (const set of ['0000000000000000', '-', '0000', '000003ffffffffff']) expect(changedIdentities(was, read({ thread: { 6: set } }), 1001)).toHaveLength(2)
    expect(changedIdentities(was, read({ thread: { 11: 'root' } }), 1001)).toEqual([])
    expect(changedIdentities(read({ thread: { 11: 'root' } }), was, 1001)).toHaveLength(1)
  })

  test('tell of threads that are missing and of those that are new', () => {
    const alone = { ...was, threads: was.threads.slice(0, 1) }
    expect(changedIdentities(was, alone, 1001)).toEqual(['thread 1001 of PID 1001 is missing'])
    expect(changedIdentities(alone, was, 1001)).toEqual(['thread 1001 of PID 1001 was not there at the freeze'])
  })
})

describe('files after a restore', () => {
  test.each([
    ['3', 'another owner', (line: string) => line.replace(' 1001 100 100644', ' 0 100 100644')],
    ['3', 'same type', (line: string) => line.replace('100644', '10644')],
    ['cwd', 'another owner', (line: string) => line.replace(' 1001 100 40755', ' 0 0 40700')],
    ['root', 'another owner', (line: string) => line.replace(' 0 0 40755', ' 1001 100 40755')],
    ['exe', 'another owner', (line: string) => line.replace(' 0 0 100755', ' 1001 100 100755')],
    ['0', 'another device', (line: string) => line.replace('1048579', '1048577')],
    ['5', 'another owner', (line: string) => line.replace(' 1001 100 ', ' 0 0 ')],
    ['6', 'another owner', (line: string) => line.replace(' 1001 100 ', ' 0 0 ')],
    ['4', 'same kind', (line: string) => line.replace(' 15 pipe:[99]', ' 30 /shared/fifo')],
    ['map:7f0000000000-7f0000004000', 'another owner', (line: string) => line.replace(' 0 0 100755', ' 1001 100 100755')],
  ])('%s: has %s', (slot, says, change) => {
    const differences = changedIdentities(was, withFile(slot, change), 1001)
    expect(differences).toHaveLength(1)
    expect(differences[0]).toContain(says)
  })

  test.each([
    ['3', (line: string) => line.replace('0:50:0 78', '0:77:0 4711')], // Put back, or another node's number of the same file system.
    ['4', (line: string) => line.replace('1001 100 10600', '0 0 10600')], // CRIU makes pipes as root.
    ['5', (line: string) => line.replace('0:60:0 12', '0:61:0 3')],
    ['7', (line: string) => line.replace('0:70:0 4000 0 0', '0:71:0 4001 1001 100')], // Whether a process is dumpable, and when that was looked at.
    ['exe', (line: string) => line.replace('8:1:0 400 0 0', '8:17:0 9 0 43')],
    ['3', (line: string) => line.replace(' 100 100644', ' 2000 102600')], // Its owner may.
  ])('%s: may be another inode, or differ where nobody gains by it', (slot, change) => {
    expect(changedIdentities(was, withFile(slot, change), 1001)).toEqual([])
  })

  test('tell of a descriptor that the job had not, and of nothing when one is missing', () => {
    const more = read({ lines: [...files, 'file 1001 9 8:1:0 600 0 0 100600 1 20 /etc/shadow'] })
    expect(changedIdentities(was, more, 1001)).toEqual(['descriptor 9 of PID 1001 (/etc/shadow) was not there at the freeze'])
    expect(changedIdentities(more, was, 1001)).toEqual([])
  })

  test('may be mapped in more or fewer pieces, but not where nothing was', () => {
    const mapped = (...ranges: string[]): Identities => read({ lines: [...files.slice(0, -1), ...ranges.map((range) => `file 1001 map:${range} 8:1:0 500 0 0 100755 1 20 /usr/lib/libc.so.6`)] })
    expect(changedIdentities(was, mapped('7f0000000000-7f0000001000', '7f0000001000-7f0000004000'), 1001)).toEqual([])
    expect(changedIdentities(mapped('7f0000000000-7f0000001000', '7f0000001000-7f0000004000'), was, 1001)).toEqual([])
    expect(changedIdentities(was, mapped('7f0000004000-7f0000005000'), 1001)).toHaveLength(1)
    expect(changedIdentities(was, mapped('6f0000000000-6f0000001000'), 1001)).toHaveLength(1)
  })

  test('that are others by inode are counted where they have names', () => {
    expect(replacedFiles(was, withFile('3', (line) => line.replace(' 78 ', ' 79 ')))).toBe(1)
    expect(replacedFiles(was, withFile('5', (line) => line.replace(' 12 ', ' 79 ')))).toBe(0)
  })
})

describe('a record', () => {
  test('that is cut off anywhere, empty or none is not understood', () => {
    const text = listing()
    for (let length = 0; length < text.length - 'done\n'.length; length += 7) expect(parseIdentities(text.slice(0, length))).toBeUndefined()
    expect(parseIdentities('done\n')).toBeUndefined()
    expect(parseIdentities('node zz\ndone\n')).toBeUndefined()
  })

  test('with thousands of differences is told in few words', () => {
    expect(tellDifferences(Array.from({ length: 1000 }, (_, at) => String(at)))).toBe('0; 1; 2; and 997 more')
  })
})

/** A core-TID.img of an ordinary thread. @param change fields of its credentials; a number replaces the field, a list repeats it */
function coreImage(change: Readonly<Record<number, number | readonly number[]>> = {}, { seccomp = 2, state = 1, packed = false, twice = false } = {}): Buffer {
  const ids = { 1: 1001, 2: 100, 3: 1001, 4: 100, 5: 1001, 6: 100, 7: 1001, 8: 100 }
  const all = { ...ids, 9: [0, 0], 10: [0, 0], 11: [0, 0], 12: [0xffffffff, 0x1ff], 13: 0, 14: [2000, 100], 18: 1, 19: [0, 0], ...change }
  const creds = new BinaryWriter()
  for (const [number, value] of Object.entries(all)) {
    const values = typeof value === 'number' ? [value] : value
    if (packed && typeof value !== 'number') creds.tag(Number(number), WireType.LengthDelimited).bytes(values.reduce((writer, each) => writer.uint32(each), new BinaryWriter()).finish())
    else for (const each of values) creds.tag(Number(number), WireType.Varint).uint32(each)
  }
  const thread = new BinaryWriter().tag(10, WireType.LengthDelimited).bytes(creds.finish()).tag(11, WireType.Varint).uint32(seccomp).finish()
  const task = new BinaryWriter().tag(1, WireType.Varint).uint32(state).finish()
  const entry = new BinaryWriter().tag(3, WireType.LengthDelimited).bytes(task).tag(5, WireType.LengthDelimited).bytes(thread)
  // A second message of the same number is merged into the first by every reader of protocol buffers.
  if (twice) entry.tag(5, WireType.LengthDelimited).bytes(new BinaryWriter().tag(10, WireType.LengthDelimited).bytes(new BinaryWriter().tag(3, WireType.Varint).uint32(0).finish()).finish())
  const content = entry.finish()
  const head = Buffer.alloc(12)
  head.writeUInt32LE(0x54564319, 0)
  head.writeUInt32LE(0x55053847, 4)
  head.writeUInt32LE(content.length, 8)
  return Buffer.concat([head, content])
}

const job = { uid: 1001, gid: 100, rootPid: 1000 }

function judge(of1001: ImageIdentity, record = was): string[] {
  return forgedIdentities(record, [coreIdentity(1000, coreImage()), of1001], job)
}

describe('an image', () => {
  test.each([false, true])('that says what the kernel said is trusted (packed fields: %s)', (packed) => {
    expect(judge(coreIdentity(1001, coreImage({}, { packed })))).toEqual([])
  })

  test.each([
    ...[1, 2, 3, 4, 5, 6, 7, 8].map((field) => [{ [field]: 0 }] as const),
    ...[9, 10, 11, 19].flatMap((field) => [[{ [field]: [1, 0] }] as const, [{ [field]: [0, 1] }] as const, [{ [field]: [0, 0, 1] }] as const]),
    [{ 12: [0, 0] }], [{ 14: [0] }], [{ 14: [] }], [{ 14: [100, 2000, 0] }], [{ 18: 0 }], [{ 13: 1 }], [{ 13: 0x20 }], [{ 13: 0x4 }],
  ])('with %j in its credentials is not', (change) => {
    expect(judge(coreIdentity(1001, coreImage(change)))).toHaveLength(1)
  })

  test('with another seccomp mode, with a second message behind the first, or of a thread that has ended, is not', () => {
    expect(judge(coreIdentity(1001, coreImage({}, { seccomp: 0 })))).toHaveLength(1)
    expect(judge(coreIdentity(1001, coreImage({}, { twice: true })))).toHaveLength(1)
    expect(judge(coreIdentity(1001, coreImage({}, { state: 6 })))).toEqual(['thread 1001 of PID 1001 is missing in the image'])
  })

  test('may leave the seccomp mode of a thread to its leader, whose own counts', () => {
    const record = { ...was, threads: was.threads.map((thread) => ({ ...thread, pid: 1000 })) }
    const thread = coreIdentity(1001, coreImage({}, { seccomp: 0 }))
    expect(judge(thread, record)).toEqual([])
    expect(forgedIdentities(record, [coreIdentity(1000, coreImage({}, { seccomp: 0 })), thread], job)).toHaveLength(2)
  })

  test('may say that capabilities are kept over a change of user, which needs no right', () => {
    expect(judge(coreIdentity(1001, coreImage({ 13: 0x10 })))).toEqual([])
  })

  test('with a thread that was not there is not, unless it has ended', () => {
    const images = [1000, 1001].map((tid) => coreIdentity(tid, coreImage()))
    expect(forgedIdentities(was, [...images, coreIdentity(1002, coreImage())], job)).toHaveLength(1)
    expect(forgedIdentities(was, [...images, coreIdentity(1002, coreImage({}, { state: 6 }))], job)).toEqual([])
  })

  test('of another user\'s job is not, whatever its record says', () => {
    const images = [1000, 1001].map((tid) => coreIdentity(tid, coreImage()))
    expect(forgedIdentities(was, images, { ...job, uid: 1002 })).toHaveLength(1)
    expect(forgedIdentities(was, images, { ...job, gid: 0 })).toHaveLength(1)
    expect(forgedIdentities({ ...was, threads: [] }, [], job)).toHaveLength(1)
  })

  test('that is cut off, longer than it says, or none, is damaged', () => {
    const image = coreImage()
    for (let length = 0; length < image.length; length++) expect(() => coreIdentity(1, image.subarray(0, length))).toThrow(/core-1\.img cannot be read/)
    expect(() => coreIdentity(1, Buffer.concat([image, image]))).toThrow(/cannot be read/)
    expect(() => coreIdentity(1, Buffer.alloc(100))).toThrow(/cannot be read/)
  })
})

describe('the helper', () => {
  test('tells who this process is, and what it holds', async () => {
    const helpers = await buildHelpers()
    try {
      const { stdout } = await execa(join(helpers, 'stint-init'), ['ledger', 'identities'], { input: `process ${process.pid}\n` })
      const found = parseIdentities(stdout)
      const ids = [process.getuid?.(), process.geteuid?.()]
      expect(found?.threads[0]).toMatchObject({ pid: process.pid, tid: process.pid, values: { noNewPrivs: '0', seccomp: '0' } })
      expect(found?.threads[0]?.values.uids.split(',').slice(0, 2)).toEqual(ids.map(String))
      expect(found?.files.filter(({ slot }) => ['cwd', 'root', 'exe', '0'].includes(slot))).toHaveLength(4)
      expect(found?.files.some(({ slot }) => slot.startsWith('map:'))).toBe(true)
      expect(found === undefined ? ['nothing'] : changedIdentities(found, found, 1001)).toEqual([])
    } finally {
      rmSync(helpers, { recursive: true })
    }
  }, 120_000)
})
