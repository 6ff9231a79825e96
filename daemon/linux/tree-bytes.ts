import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** So many files are asked for their size at once. */
const atOnce = 64

/** Sizes of all regular files below a directory, summed up without holding up the event loop. What vanishes meanwhile counts nothing. */
export async function bytesBelow(directory: string): Promise<number> {
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  let bytes = 0
  for (let at = 0; at < files.length; at += atOnce) {
    const sizes = await Promise.all(files.slice(at, at + atOnce).map(async ({ parentPath, name }) => stat(join(parentPath, name)).then(({ size }) => size, () => 0)))
    bytes += sizes.reduce((sum, size) => sum + size, 0)
  }
  return bytes
}
