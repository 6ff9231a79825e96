import { describe, expect, test } from '@jest/globals'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { readOnlyPaths, whyNotReadOn, type OpenedFile } from '../../daemon/core/read-files.ts'
import { withoutSizes } from '../../plugins/engines/criu/images.ts'

/** Files that are only read may grow while a run waits. */

function opened(path: string, change: Partial<OpenedFile> = {}): OpenedFile {
  return { fd: 3, path, kind: 'file', deleted: false, writable: false, ...change }
}

describe('files that may change', () => {
  const shared = (path: string): boolean => path.startsWith('/home/')

  test('are shared, regular and open for reading alone', () => {
    expect(readOnlyPaths([opened('/home/a'), opened('/home/a', { fd: 4 }), opened('/usr/b'), opened('/home/c', { writable: true }), opened('/home/d', { deleted: true }), opened('/home/e', { kind: 'directory' })], shared)).toEqual(['/home/a'])
  })

  test('are not mapped, nor open for writing by another descriptor', () => {
    expect(readOnlyPaths([opened('/home/a'), opened('/home/a', { fd: undefined }), opened('/home/b'), opened('/home/b', { fd: 4, writable: true })], shared)).toEqual([])
  })
})

describe('the payload reads on', () => {
  const file = { path: '/home/a', inode: 5, position: 100 }
  test.each([
    ['in a file that is as it was, or longer', { kind: 'file', inode: '5', bytes: 100, mtime: '1' }, undefined],
    ['not in another file of its name', { kind: 'file', inode: '6', bytes: 100, mtime: '1' }, /replaced/],
    ['not in a file that is shorter than where it was', { kind: 'file', inode: '5', bytes: 99, mtime: '1' }, /shorter/],
    ['not in a directory, nor by a link', { kind: 'other' }, /replaced/],
    ['not in nothing', { kind: 'missing' }, /no longer exists/],
    ['perhaps where its user may not look', { kind: 'failed', why: 'Permission denied' }, undefined],
  ] as const)('%s', (_, seen, why) => {
    const told = whyNotReadOn(file, seen)
    if (why === undefined) expect(told).toBeUndefined()
    else expect(told).toMatch(why)
  })
})

/** files.img as CRIU 4.2 writes it. */
function image(...entries: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x54564319, 0)
  head.writeUInt32LE(0x56303138, 4)
  return Buffer.concat([head, ...entries.flatMap((entry) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(entry.length)
    return [length, entry]
  })])
}

function regular(name: string): Uint8Array {
  const reg = new BinaryWriter().tag(1, WireType.Varint).uint32(7).tag(2, WireType.Varint).uint32(0).tag(3, WireType.Varint).uint64(1234)
    .tag(5, WireType.LengthDelimited).bytes(new Uint8Array([8, 0])).tag(6, WireType.LengthDelimited).string(name)
    .tag(8, WireType.Varint).uint64(5000).tag(10, WireType.Varint).uint32(0o100644).tag(900, WireType.Varint).uint32(1).finish()
  return new BinaryWriter().tag(1, WireType.Varint).int32(1).tag(2, WireType.Varint).uint32(7).tag(3, WireType.LengthDelimited).bytes(reg).finish()
}

const eventfd = new BinaryWriter().tag(1, WireType.Varint).int32(9).tag(2, WireType.Varint).uint32(8).tag(12, WireType.LengthDelimited).bytes(new Uint8Array([8, 1])).finish()

/** Numbers of the fields of the only regular file. */
function numbersIn(changed: Buffer): number[] {
  const entry = new BinaryReader(changed.subarray(12))
  const numbers: number[] = []
  while (entry.pos < entry.len) {
    const [number, type] = entry.tag()
    if (number !== 3) entry.skip(type)
    else {
      const reg = new BinaryReader(entry.bytes())
      while (reg.pos < reg.len) {
        const [inner, innerType] = reg.tag()
        reg.skip(innerType)
        numbers.push(inner)
      }
    }
  }
  return numbers
}

describe('the image of open files', () => {
  test('loses the size and mode of the files that are named, and nothing else', () => {
    const changed = withoutSizes(image(regular('/home/a')), new Set(['/home/a']))
    expect(numbersIn(changed)).toEqual([1, 2, 3, 5, 6, 900])
    expect(changed.readUInt32LE(8)).toBe(changed.length - 12)
  })

  test('keeps every byte of other files and other kinds', () => {
    const before = image(regular('/home/b'), eventfd, regular('/home/c'))
    expect(withoutSizes(before, new Set(['/home/a'])).equals(before)).toBe(true)
  })

  test.each([['empty', Buffer.alloc(0)], ['another image', Buffer.alloc(20)], ['cut off in an entry', image(eventfd).subarray(0, -1)], ['cut off in a length', image(eventfd).subarray(0, 10)]])('that is %s is an error', (_, broken) => {
    expect(() => withoutSizes(broken, new Set(['/home/a']))).toThrow(/files\.img/)
  })
})
