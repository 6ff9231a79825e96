import { closeSync, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { StintError, systemCode } from '../../../daemon/core/errors.ts'
import type { StoredImage } from '../store.ts'
import { Hashing } from './hashing.ts'

/** How long a comparison is believed: from a Prolog to the restore it precedes. */
const believedMilliseconds = 10 * 60_000

/**
 * Who a file is and when it was last touched. The change time (ctime) is set by the kernel at every write and cannot be set back.
 * By an opened file: that is when a network file system asks its server.
 */
function signatureOf(image: StoredImage): string {
  return image.manifest.files.map(({ path }) => {
    try {
      const fd = openSync(join(image.directory, path), 'r')
      try {
        const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true })
        return [path, dev, ino, size, mtimeNs, ctimeNs].join(':')
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return `${path}: missing`
      throw error
    }
  }).join('\n')
}

async function compare(image: StoredImage): Promise<void> {
  const hashing = new Hashing(image.directory)
  try {
    const found = new Map((await hashing.finish()).map((file) => [file.path, file]))
    for (const file of image.manifest.files) {
      const now = found.get(file.path)
      if (now?.bytes !== file.bytes || now.xxh3 !== file.xxh3) {
        throw new StintError('E_IMAGE_DAMAGED', `${file.path} of checkpoint ${image.manifest.checkpoint} is not what was written`, { details: { directory: image.directory } })
      }
    }
  } finally {
    await hashing.stop()
  }
}

interface Compared {
  readonly at: number
  /** Taken before the first byte was read. */
  readonly signature: string
}

/** Compares images with their manifests, one reading at a time for each, and remembers for a while what was found whole. */
export class Verifier {
  readonly #running = new Map<string, Promise<void>>()
  readonly #compared = new Map<string, Compared>()

  /** @throws StintError E_IMAGE_DAMAGED */
  async verify(image: StoredImage): Promise<void> {
    // Whatever another caller's reading ends with, what it has learnt is looked at below.
    await this.#running.get(image.directory)?.catch(() => undefined)
    if (this.#isKnown(image)) return
    const running = this.#compare(image)
    this.#running.set(image.directory, running)
    try {
      await running
    } finally {
      if (this.#running.get(image.directory) === running) this.#running.delete(image.directory)
    }
  }

  #isKnown(image: StoredImage): boolean {
    const compared = this.#compared.get(image.directory)
    return compared !== undefined && Date.now() - compared.at < believedMilliseconds && compared.signature === signatureOf(image)
  }

  async #compare(image: StoredImage): Promise<void> {
    this.#compared.delete(image.directory)
    const signature = signatureOf(image)
    await compare(image)
    for (const [directory, { at }] of this.#compared) if (Date.now() - at >= believedMilliseconds) this.#compared.delete(directory)
    this.#compared.set(image.directory, { at: Date.now(), signature })
  }
}
