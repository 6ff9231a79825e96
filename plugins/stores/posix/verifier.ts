import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { StintError, systemCode } from '../../../daemon/core/errors.ts'
import type { ImageFile } from '../../../daemon/core/manifest.ts'
import type { StoreKeys } from '../../../daemon/core/store-keys.ts'
import type { StoredImage } from '../store.ts'
import { Hashing } from './hashing.ts'
import { imageKey, sameMac } from './macs.ts'

const manifestName = 'manifest.json'

/** How long a comparison is believed: from a Prolog to the restore it precedes. */
const believedMilliseconds = 10 * 60_000

/** Everything in an image's directory but the directories. */
function namesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .filter((name) => name !== manifestName)
}

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
  }).concat(namesIn(image.directory).sort()).join('\n')
}

async function filesNow(directory: string, key: Uint8Array | undefined, sums: boolean): Promise<Map<string, ImageFile>> {
  const hashing = new Hashing(directory, key, sums)
  try {
    return new Map((await hashing.finish()).map((file) => [file.path, file]))
  } finally {
    await hashing.stop()
  }
}

/** The first file that is not what was sealed. One with a MAC is read for that alone: it says all that a checksum does. */
function firstOdd(image: StoredImage, found: ReadonlyMap<string, ImageFile>, what: 'gmac' | 'xxh3'): string | undefined {
  return image.manifest.files.find((file) => {
    const now = found.get(file.path)
    return now?.bytes !== file.bytes || !sameMac(now[what] ?? '', file[what] ?? 'none')
  })?.path
}

function oddError(image: StoredImage, code: 'E_IMAGE_DAMAGED' | 'E_IMAGE_FORGED', path: string, what: string): StintError {
  return new StintError(code, `${path} of checkpoint ${image.manifest.checkpoint} ${what}`, { details: { directory: image.directory } })
}

/** What the engine would read although nobody sealed it. */
function assertNothingMore(image: StoredImage): void {
  const sealed = new Set(image.manifest.files.map(({ path }) => path))
  const more = namesIn(image.directory).find((name) => !sealed.has(name))
  if (more !== undefined) throw oddError(image, 'E_IMAGE_FORGED', more, 'is not one of its files: somebody put it there')
}

async function compare(image: StoredImage, keys: StoreKeys): Promise<void> {
  const { directory, manifest: { salt }, keyId } = image
  const key = keys.find(({ id }) => id === keyId)
  if (keyId === undefined || key === undefined || salt === undefined) {
    if (keyId !== undefined) throw new StintError('E_IMAGE_FORGED', `checkpoint ${image.manifest.checkpoint} cannot be compared without store key ${keyId}`, { details: { directory } })
    const odd = firstOdd(image, await filesNow(directory, undefined, true), 'xxh3')
    if (odd !== undefined) throw oddError(image, 'E_IMAGE_DAMAGED', odd, 'is not what was written')
  } else {
    const odd = firstOdd(image, await filesNow(directory, imageKey(key, salt), false), 'gmac')
    if (odd !== undefined) {
      // Bits that fall over by themselves do not fall so that the checksum is right.
      const damaged = firstOdd(image, await filesNow(directory, undefined, true), 'xxh3')
      if (damaged !== undefined) throw oddError(image, 'E_IMAGE_DAMAGED', damaged, 'is not what was written')
      throw oddError(image, 'E_IMAGE_FORGED', odd, 'was changed by somebody who saw to it that its checksum is right')
    }
  }
  assertNothingMore(image)
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
  readonly #keys: () => StoreKeys

  constructor(keys: () => StoreKeys = () => []) {
    this.#keys = keys
  }

  /** @throws StintError E_IMAGE_DAMAGED, E_IMAGE_FORGED */
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
    await compare(image, this.#keys())
    for (const [directory, { at }] of this.#compared) if (Date.now() - at >= believedMilliseconds) this.#compared.delete(directory)
    this.#compared.set(image.directory, { at: Date.now(), signature })
  }
}
