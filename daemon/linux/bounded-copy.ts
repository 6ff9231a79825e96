import { constants, createReadStream, createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { StintError } from '../core/errors.ts'

/** How much of a file is copied at most, and what to call it and its limit. */
export interface CopyLimit {
  readonly what: string
  readonly bytes: number
  /** Its key in the configuration. */
  readonly setting: string
}

/**
 * Copies a regular file that a user can change meanwhile: in pieces, beside the loop, and no more than `limit`, however large it is
 * called or becomes. Whatever else lies at the path is not opened: a FIFO would keep its reader waiting for ever.
 * @param target must not exist
 * @throws StintError E_OVER_BUDGET when the file is larger; E_NOT_VERIFIED when it is no regular file
 */
export async function copyBounded(source: string, target: string, mode: number, { what, bytes, setting }: CopyLimit): Promise<void> {
  await using file = await open(source, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  const stat = await file.stat()
  if (!stat.isFile()) throw new StintError('E_NOT_VERIFIED', `${what} (${source}) is no regular file`)
  const tooLarge = (): StintError => new StintError('E_OVER_BUDGET', `${what} has more than ${bytes / 1e6} MB (${setting})`, { hint: 'Keep data in files of their own: what is appended to a job script travels with every image.' })
  if (stat.size > bytes) throw tooLarge()
  const from = createReadStream('', { fd: file.fd, autoClose: false, start: 0, end: bytes })
  const to = createWriteStream(target, { flags: 'wx', mode })
  await pipeline(from, to)
  if (from.bytesRead > bytes) throw tooLarge()
}
