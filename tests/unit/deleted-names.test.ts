import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { describe, expect, test } from '@jest/globals'
import { deletedNotice, deletedObstacles, otherPath, readNameState, type DeletedFile } from '../../daemon/core/deleted-names.ts'
import { deletedNames, ghostsOf, withPaths } from '../../plugins/engines/criu/deleted-names.ts'

describe('the path of a deleted name in a restore', () => {
  test.each([
    ['file', 'free', undefined], ['file', 'taken', undefined], ['file', 'orphan', undefined], ['file', 'closed', '/tmp/.stint-deleted/usr/lib/lib.so'],
    ['directory', 'free', undefined], ['directory', 'taken', '/tmp/.stint-deleted-3-lib.so'], ['directory', 'orphan', '/tmp/.stint-deleted-3-lib.so'],
    ['socket', 'orphan', undefined], ['socket', 'taken', '/tmp/.stint-deleted-3-lib.so'], ['socket', 'closed', '/tmp/.stint-deleted-3-lib.so'],
  ] as const)('of a %s that is %s', (kind, state, other) => {
    expect(otherPath({ kind, path: '/usr/lib/lib.so' }, state, '/tmp', 3)).toBe(other)
  })

  test('fits into what the kernel takes', () => {
    expect(otherPath({ kind: 'file', path: `/${'d/'.repeat(2000)}last` }, 'closed', '/tmp', 3)).toBe('/tmp/.stint-deleted-3-last')
    expect(otherPath({ kind: 'socket', path: `/a/${'s'.repeat(100)}` }, 'closed', '/tmp', 3)).toBe('/tmp/.stint-deleted-3')
  })

  test('is another one where the helper could not tell', () => {
    expect([undefined, 'failed why', 'closed', 'free'].map(readNameState)).toEqual(['closed', 'closed', 'closed', 'free'])
  })

  test('is told where it differs', () => {
    expect(deletedNotice('/opt/a', undefined, false)).toBeUndefined()
    expect(deletedNotice('/opt/a', '/tmp/a', true)).toMatch(/\/opt\/a.*\/tmp\/a.*belongs to you/)
  })
})

const user = { uid: 1001, gid: 100, groups: [200] }
const file: DeletedFile = { path: '/opt/a', pid: 7, comm: 'x', links: 0, written: false, mode: 0o100644, uid: 0, gid: 0, bytes: 10, state: 'closed' }

describe('a deleted file', () => {
  const kinds = (change: Partial<DeletedFile>): string[] => deletedObstacles([{ ...file, ...change }], user, 1000).map(({ kind }) => kind)

  test('is no obstacle where it can be copied', () => {
    expect(kinds({})).toEqual([])
    expect(kinds({ links: 1 })).toEqual([])
    expect(kinds({ mode: 0o100640, gid: 200 })).toEqual([])
    expect(kinds({ links: 1, written: true, state: 'free', uid: 1001 })).toEqual([])
  })

  test('is one where the user may not read it', () => {
    expect(kinds({ mode: 0o100600 })).toEqual(['unreadable-file'])
    expect(kinds({ mode: 0o100044, uid: 1001 })).toEqual(['unreadable-file'])
    expect(kinds({ mode: 0o100604, gid: 100 })).toEqual(['unreadable-file'])
  })

  test('is one where a copy would part from the name that is left', () => {
    expect(kinds({ links: 1, written: true })).toEqual(['removed-name'])
    expect(kinds({ links: 1, written: true, state: 'taken', uid: 1001 })).toEqual(['removed-name'])
    expect(kinds({ links: 1, written: true, state: 'free' })).toEqual(['removed-name'])
  })

  test('is one where it would fill the memory of the job', () => {
    expect(kinds({ bytes: 1001 })).toEqual(['carry-limit'])
    expect(kinds({ bytes: 1001, state: 'free' })).toEqual([])
  })
})

function image(magic: number, ...entries: readonly BinaryWriter[]): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x54564319)
  head.writeUInt32LE(magic, 4)
  return Buffer.concat([head, ...entries.flatMap((entry) => {
    const bytes = entry.finish()
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    return [length, bytes]
  })])
}

function message(fields: Readonly<Record<number, number | string | Uint8Array>>): BinaryWriter {
  const writer = new BinaryWriter()
  for (const [number, value] of Object.entries(fields)) {
    if (typeof value === 'number') writer.tag(Number(number), WireType.Varint).uint32(value)
    else writer.tag(Number(number), WireType.LengthDelimited).bytes(typeof value === 'string' ? Buffer.from(value, 'latin1') : value)
  }
  return writer
}

describe('the images of CRIU', () => {
  const reg = (name: string): Uint8Array => message({ 1: 5, 6: name, 8: 9, 10: 0o100644 }).finish()
  const files = image(0x56303138,
    message({ 1: 1, 2: 5, 3: reg('/opt/a\xff') }), message({ 1: 1, 2: 6, 3: reg('/opt/a\xff') }), message({ 1: 1, 2: 7, 3: reg('/opt/gone') }),
    message({ 1: 5, 2: 8, 16: message({ 1: 8, 11: 'name\0', 14: '/home', 15: 1 }).finish() }), message({ 1: 5, 2: 9, 16: message({ 1: 9, 11: '/there\0' }).finish() }))
  const ghosts = ghostsOf(image(0x59133954, message({ 1: 5, 2: 1, 3: 1 }), message({ 1: 7, 2: 2, 3: 1 }), message({ 1: 6, 2: 3, 3: 0 })))
  const copies = new Map([[1, image(0x52583605, message({ 1: 0, 2: 50, 3: 0o100644 }))], [2, image(0x52583605, message({ 1: 1001, 2: 100, 3: 0o040755 }))]])

  test('tell what has no name', () => {
    expect(deletedNames(files, ghosts, (copy) => Buffer.concat([copies.get(copy) ?? Buffer.alloc(0), Buffer.from('content')]))).toEqual([
      { id: 5, path: '/opt/a\xff', kind: 'file', uid: 0, gid: 50 }, { id: 7, path: '/opt/gone', kind: 'directory', uid: 1001, gid: 100 },
      { id: 8, path: '/home/name', kind: 'socket', uid: undefined, gid: undefined },
    ])
  })

  test('get other paths for some of it, and stay as they are otherwise', () => {
    const changed = withPaths(files, new Map([[5, '/tmp/a\xff'], [8, '/tmp/s']]))
    expect(changed).toEqual(image(0x56303138,
      message({ 1: 1, 2: 5, 3: message({ 1: 5, 6: '/tmp/a\xff', 8: 9 }).finish() }), message({ 1: 1, 2: 6, 3: reg('/opt/a\xff') }), message({ 1: 1, 2: 7, 3: reg('/opt/gone') }),
      message({ 1: 5, 2: 8, 16: message({ 1: 8, 11: '/tmp/s\0', 15: 1 }).finish() }), message({ 1: 5, 2: 9, 16: message({ 1: 9, 11: '/there\0' }).finish() })))
    expect(withPaths(files, new Map())).toEqual(files)
  })

  test('that are cut off are no images', () => {
    expect(() => withPaths(files.subarray(0, -1), new Map())).toThrow(/cut off/)
    expect(() => ghostsOf(files)).toThrow(/does not begin/)
  })
})
