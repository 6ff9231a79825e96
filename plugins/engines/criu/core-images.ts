import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { StintError } from '../../../daemon/core/errors.ts'
import type { ImageIdentity } from '../../../daemon/core/identities.ts'
import { commonMagic, contentOf, fieldsOf, headBytes, type Field } from './images.ts'

/** core-TID.img: what a restore makes of one thread (images/core.proto, creds.proto of CRIU 4.2). */

const coreMagic = 0x55053847

/** Numbers of fields: core_entry, task_core_entry, thread_core_entry, creds_entry. */
const core = { tc: 3, threadCore: 5 }
const task = { state: 1, oldSeccompMode: 11 }
const thread = { creds: 10, seccompMode: 11 }
const creds = {
  uid: 1, gid: 2, euid: 3, egid: 4, suid: 5, sgid: 6, fsuid: 7, fsgid: 8,
  inheritable: 9, permitted: 10, effective: 11, bounding: 12, securebits: 13, groups: 14, noNewPrivs: 18, ambient: 19,
}

/** A task that has ended: TASK_DEAD and TASK_ZOMBIE (compel/include/uapi/task-state.h). */
const endedStates: ReadonlySet<number> = new Set([2, 6])

/** Protocol buffers let the last of several fields count, and CRIU's reader does: a forger may write one twice. */
function lastOf(fields: readonly Field[], number: number): Field | undefined {
  return fields.findLast((field) => field.number === number)
}

/** A message that comes several times is merged from all of them. */
function messageOf(fields: readonly Field[], number: number): Field[] | undefined {
  const parts = fields.filter((field) => field.number === number)
  return parts.length === 0 ? undefined : parts.flatMap((part) => fieldsOf(contentOf(part)))
}

/** Numbers of a repeated field, packed or not. */
function numbersOf(fields: readonly Field[], number: number): number[] {
  return fields.filter((field) => field.number === number).flatMap((field) => {
    const reader = new BinaryReader(field.type === WireType.LengthDelimited ? contentOf(field) : field.raw)
    if (field.type !== WireType.LengthDelimited) reader.tag()
    const values: number[] = []
    while (reader.pos < reader.len) values.push(reader.uint32())
    return values
  })
}

function numberOf(fields: readonly Field[], number: number, otherwise: number): number {
  const field = lastOf(fields, number)
  return field === undefined ? otherwise : numbersOf([field], number).at(-1) ?? otherwise
}

/** Words of 32 bits, the lowest first, as the kernel prints a set. */
function capabilities(fields: readonly Field[], number: number): string {
  return numbersOf(fields, number).map((word) => word.toString(16).padStart(8, '0')).toReversed().join('').padStart(16, '0')
}

/** @param entry a core_entry @throws Error for what is none */
function decode(tid: number, entry: Uint8Array): ImageIdentity {
  const fields = fieldsOf(entry)
  const [ofTask, ofThread] = [messageOf(fields, core.tc), messageOf(fields, core.threadCore) ?? []]
  if (ofTask !== undefined && endedStates.has(numberOf(ofTask, task.state, 0))) return { tid, ended: true, values: {}, securebits: 0 }
  const own = messageOf(ofThread, thread.creds)
  if (own === undefined) throw new Error('no credentials')
  const ids = (...numbers: readonly number[]): string => numbers.map((number) => numberOf(own, number, 0)).join(',')
  const groups = numbersOf(own, creds.groups)
  return {
    tid, ended: false, securebits: numberOf(own, creds.securebits, 0),
    values: {
      uids: ids(creds.uid, creds.euid, creds.suid, creds.fsuid), gids: ids(creds.gid, creds.egid, creds.sgid, creds.fsgid),
      groups: groups.length === 0 ? '-' : groups.join(','),
      inheritable: capabilities(own, creds.inheritable), permitted: capabilities(own, creds.permitted), effective: capabilities(own, creds.effective),
      bounding: capabilities(own, creds.bounding), ambient: capabilities(own, creds.ambient),
      noNewPrivs: String(numberOf(own, creds.noNewPrivs, 0)),
      seccomp: String(numberOf(ofThread, thread.seccompMode, numberOf(ofTask ?? [], task.oldSeccompMode, 0))),
    },
  }
}

/** @param image content of core-TID.img @throws StintError E_IMAGE_DAMAGED */
export function coreIdentity(tid: number, image: Buffer): ImageIdentity {
  try {
    if (image.length < headBytes + 4 || image.readUInt32LE(0) !== commonMagic || image.readUInt32LE(4) !== coreMagic) throw new Error('it does not begin as CRIU 4.2 writes it')
    const end = headBytes + 4 + image.readUInt32LE(headBytes)
    if (end !== image.length) throw new Error('it is cut off, or there is more in it')
    return decode(tid, image.subarray(headBytes + 4, end))
  } catch (cause) {
    throw new StintError('E_IMAGE_DAMAGED', `core-${tid}.img cannot be read: ${String(cause)}`, { cause })
  }
}
