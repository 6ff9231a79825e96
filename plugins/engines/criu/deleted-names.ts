import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import type { DeletedName } from '../engine.ts'
import { changedFiles, contentOf, fieldsOf, fileEntry, filesMagic, regFileEntry, unixEntry, visitEntries, withContent, type Field } from './images.ts'

/** What of an image had no name any more: CRIU gives it one for a moment when it restores (criu/files-reg.c, criu/sk-unix.c of CRIU 4.2). */

const remapMagic = 0x59133954
const ghostMagic = 0x52583605
/** Numbers of fields: remap_file_path_entry, ghost_file_entry. */
const remap = { original: 1, ghost: 2, type: 3 }
const ghost = { uid: 1, gid: 2, mode: 3 }
/** REMAP_TYPE__GHOST */
const typeGhost = 1
const typeBits = 0o170000
const directoryBits = 0o040000

function numberOf(fields: readonly Field[], number: number): number | undefined {
  const field = fields.findLast((one) => one.number === number)
  if (field === undefined || field.type !== WireType.Varint) return undefined
  const reader = new BinaryReader(field.raw)
  reader.tag()
  return reader.uint32()
}

function bytesOf(fields: readonly Field[], number: number): Buffer | undefined {
  const field = fields.findLast((one) => one.number === number && one.type === WireType.LengthDelimited)
  return field === undefined ? undefined : Buffer.from(contentOf(field))
}

/** Copies in the image (ghost-file-N.img) by the file entry that they belong to. @param image remap-fpath.img */
export function ghostsOf(image: Buffer): Map<number, number> {
  const ghosts = new Map<number, number>()
  visitEntries(image, 'remap-fpath.img', remapMagic, (entry) => {
    const fields = fieldsOf(entry)
    const [original, copy] = [numberOf(fields, remap.original), numberOf(fields, remap.ghost)]
    if (numberOf(fields, remap.type) === typeGhost && original !== undefined && copy !== undefined) ghosts.set(original, copy)
  })
  return ghosts
}

/** Bytes of ghost-file-N.img in which its first message ends. */
export const ghostHeadBytes = 8 + 4 + 8192

/** @param head first bytes of ghost-file-N.img */
export function ghostHead(head: Buffer): Pick<DeletedName, 'uid' | 'gid'> & { readonly isDirectory: boolean } {
  if (head.length < 12) throw new Error('ghost-file.img is cut off')
  let found: Field[] = []
  visitEntries(head.subarray(0, 12 + head.readUInt32LE(8)), 'ghost-file.img', ghostMagic, (entry) => { found = fieldsOf(entry) })
  return { uid: numberOf(found, ghost.uid) ?? 0, gid: numberOf(found, ghost.gid) ?? 0, isDirectory: ((numberOf(found, ghost.mode) ?? 0) & typeBits) === directoryBits }
}

/** A socket's name has a zero byte behind it where the kernel told it so. */
const zeroEnd = /\0+$/

/** @param image files.img @param head reads the beginning of a copy in the image */
export function deletedNames(image: Buffer, ghosts: ReadonlyMap<number, number>, head: (copy: number) => Buffer): DeletedName[] {
  const names: DeletedName[] = []
  visitEntries(image, 'files.img', filesMagic, (entry) => {
    const fields = fieldsOf(entry)
    const id = numberOf(fields, fileEntry.id) ?? -1
    const [reg, unix] = [bytesOf(fields, fileEntry.reg), bytesOf(fields, fileEntry.unix)]
    const copy = ghosts.get(id)
    if (reg !== undefined && copy !== undefined) {
      const { isDirectory, uid, gid } = ghostHead(head(copy))
      names.push({ id, path: bytesOf(fieldsOf(reg), regFileEntry.name)?.toString('latin1') ?? '', kind: isDirectory ? 'directory' : 'file', uid, gid })
    }
    const socket = unix === undefined ? [] : fieldsOf(unix)
    const name = bytesOf(socket, unixEntry.name)?.toString('latin1').replace(zeroEnd, '') ?? ''
    if (numberOf(socket, unixEntry.deleted) !== 1 || name === '') return
    names.push({ id, path: name.startsWith('/') ? name : `${bytesOf(socket, unixEntry.directory)?.toString('latin1') ?? ''}/${name}`, kind: 'socket', uid: undefined, gid: undefined })
  })
  return names
}

function renamedFile(reg: Uint8Array, path: string): Uint8Array {
  const kept = fieldsOf(reg).filter(({ number }) => number !== regFileEntry.mode)
  return withContent(kept, regFileEntry.name, () => Buffer.from(path, 'latin1'))
}

function renamedSocket(socket: Uint8Array, path: string): Uint8Array {
  const kept = fieldsOf(socket).filter(({ number }) => number !== unixEntry.directory)
  return withContent(kept, unixEntry.name, (name) => Buffer.from(`${path}${zeroEnd.exec(Buffer.from(name).toString('latin1'))?.[0] ?? ''}`, 'latin1'))
}

/** files.img with other paths for some of its entries, whose modes CRIU then does not compare. @param paths by id, their bytes as latin1 */
export function withPaths(image: Buffer, paths: ReadonlyMap<number, string>): Buffer {
  return changedFiles(image, (entry) => {
    const fields = fieldsOf(entry)
    const path = paths.get(numberOf(fields, fileEntry.id) ?? -1)
    if (path === undefined) return entry
    const renamed = fieldsOf(withContent(fields, fileEntry.reg, (reg) => renamedFile(reg, path)))
    return withContent(renamed, fileEntry.unix, (socket) => renamedSocket(socket, path))
  })
}
