import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

/**
 * CRIU's image files: two magic numbers, then messages, each after its length in 4 bytes, little endian (criu/protobuf.c,
 * images/*.proto of CRIU 4.2). What is changed is changed field by field: fields that are not known here stay as they are.
 */

export const commonMagic = 0x54564319
export const filesMagic = 0x56303138
export const headBytes = 8

/** Numbers of fields: file_entry in fdinfo.proto, reg_file_entry in regfile.proto, unix_sk_entry in sk-unix.proto. */
export const fileEntry = { id: 2, reg: 3, unix: 16 }
export const regFileEntry = { name: 6, size: 8, mode: 10 }
export const unixEntry = { name: 11, directory: 14, deleted: 15 }

export interface Field { readonly number: number; readonly type: WireType; readonly raw: Uint8Array }

/** @param message of protocol buffers @throws Error for anything else */
export function fieldsOf(message: Uint8Array): Field[] {
  const reader = new BinaryReader(message)
  const fields: Field[] = []
  while (reader.pos < reader.len) {
    const start = reader.pos
    const [number, type] = reader.tag()
    reader.skip(type, number)
    fields.push({ number, type, raw: message.subarray(start, reader.pos) })
  }
  return fields
}

/** What a length-delimited field holds. */
export function contentOf({ raw }: Field): Uint8Array {
  const reader = new BinaryReader(raw)
  reader.tag()
  return reader.bytes()
}

function isNamed(reg: Uint8Array, paths: ReadonlySet<string>): boolean {
  const name = fieldsOf(reg).find(({ number }) => number === regFileEntry.name)
  return name !== undefined && paths.has(Buffer.from(contentOf(name)).toString())
}

function withoutSize(reg: Uint8Array): Uint8Array {
  return Buffer.concat(fieldsOf(reg).filter(({ number }) => number !== regFileEntry.size && number !== regFileEntry.mode).map(({ raw }) => raw))
}

/** One entry of files.img, without the size and mode of a file that is named. */
function forgetIn(entry: Uint8Array, paths: ReadonlySet<string>): Uint8Array {
  const fields = fieldsOf(entry)
  const reg = fields.find(({ number, type }) => number === fileEntry.reg && type === WireType.LengthDelimited)
  if (reg === undefined || !isNamed(contentOf(reg), paths)) return entry
  return withContent(fields, fileEntry.reg, withoutSize)
}

/** @throws Error that says where, also for what nests deeper than the stack */
function readable<T>(name: string, at: number, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw new Error(`${name} has no message of CRIU at byte ${at}`, { cause })
  }
}

/**
 * Calls `visit` with each message of an image.
 * @param name of the image, for errors
 * @throws Error for what is no such image, or is cut off
 */
export function visitEntries(image: Buffer, name: string, magic: number, visit: (entry: Uint8Array) => void): void {
  if (image.length < headBytes || image.readUInt32LE(0) !== commonMagic || image.readUInt32LE(4) !== magic) throw new Error(`${name} does not begin as CRIU 4.2 writes it`)
  for (let at = headBytes; at < image.length;) {
    const end = at + 4 + (at + 4 <= image.length ? image.readUInt32LE(at) : Infinity)
    if (end > image.length) throw new Error(`${name} is cut off`)
    readable(name, at, () => { visit(image.subarray(at + 4, end)) })
    at = end
  }
}

/** files.img with other messages in the place of its own. @throws Error for what is no such image, or is cut off */
export function changedFiles(image: Buffer, change: (entry: Uint8Array) => Uint8Array): Buffer {
  const parts: Uint8Array[] = [image.subarray(0, headBytes)]
  visitEntries(image, 'files.img', filesMagic, (old) => {
    const entry = change(old)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(entry.length)
    parts.push(length, entry)
  })
  return Buffer.concat(parts)
}

/** One field of a message with other content; the others as they are. @param change gets what it holds, and returns what it is to hold */
export function withContent(fields: readonly Field[], number: number, change: (content: Uint8Array) => Uint8Array): Uint8Array {
  return Buffer.concat(fields.map((field) => (
    field.number === number && field.type === WireType.LengthDelimited ? new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(change(contentOf(field))).finish() : field.raw
  )))
}

/**
 * files.img without the size and mode of some regular files, so that CRIU opens them whatever they have become.
 * @param image content of files.img
 * @param paths as the payload sees them
 * @throws Error for what is no such image, or is cut off
 */
export function withoutSizes(image: Buffer, paths: ReadonlySet<string>): Buffer {
  return changedFiles(image, (entry) => forgetIn(entry, paths))
}
