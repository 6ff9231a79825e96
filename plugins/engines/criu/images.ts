import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

/**
 * CRIU's image files: two magic numbers, then messages, each after its length in 4 bytes, little endian (criu/protobuf.c,
 * images/*.proto of CRIU 4.2). What is changed is changed field by field: fields that are not known here stay as they are.
 */

export const commonMagic = 0x54564319
const filesMagic = 0x56303138
export const headBytes = 8

/** Numbers of fields: file_entry in fdinfo.proto, reg_file_entry in regfile.proto. */
const fileEntry = { reg: 3 }
const regFileEntry = { name: 6, size: 8, mode: 10 }

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
  return Buffer.concat(fields.map((field) => (field === reg ? new BinaryWriter().tag(fileEntry.reg, WireType.LengthDelimited).bytes(withoutSize(contentOf(reg))).finish() : field.raw)))
}

/** @throws Error that says where, also for what nests deeper than the stack */
function readable<T>(at: number, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw new Error(`files.img has no message of CRIU at byte ${at}`, { cause })
  }
}

/**
 * files.img without the size and mode of some regular files, so that CRIU opens them whatever they have become.
 * @param image content of files.img
 * @param paths as the payload sees them
 * @throws Error for what is no such image, or is cut off
 */
export function withoutSizes(image: Buffer, paths: ReadonlySet<string>): Buffer {
  if (image.length < headBytes || image.readUInt32LE(0) !== commonMagic || image.readUInt32LE(4) !== filesMagic) throw new Error('files.img does not begin as CRIU 4.2 writes it')
  const parts: Uint8Array[] = [image.subarray(0, headBytes)]
  for (let at = headBytes; at < image.length;) {
    const end = at + 4 + (at + 4 <= image.length ? image.readUInt32LE(at) : Infinity)
    if (end > image.length) throw new Error('files.img is cut off')
    const entry = readable(at, () => forgetIn(image.subarray(at + 4, end), paths))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(entry.length)
    parts.push(length, entry)
    at = end
  }
  return Buffer.concat(parts)
}
