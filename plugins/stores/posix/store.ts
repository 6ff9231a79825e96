import { appendFileSync, chmodSync, existsSync, lchownSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, statfsSync, accessSync, constants } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { StintError, asStintError, isStintError, systemCode } from '../../../daemon/core/errors.ts'
import type { ImageFile, Manifest } from '../../../daemon/core/manifest.ts'
import { syncPath, writeDurably } from '../../../daemon/linux/durable.ts'
import { openManifest, sealManifest } from './manifest-file.ts'
import { takeSlot } from './writer-slots.ts'
import type { CheckpointKey, DraftKey, ImageDraft, ImageKey, ImageStore, StoredImage } from '../store.ts'

const manifestName = 'manifest.json'
const attemptsName = 'attempts'
const unfinishedPrefix = '.unfinished-'

function checkpointName(checkpoint: number): string {
  return String(checkpoint).padStart(4, '0')
}

/** Engines write as the job's user; a sealed image is root's alone. */
function takeOwnership(directory: string): void {
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    lchownSync(path, 0, 0)
    if (!entry.isSymbolicLink()) chmodSync(path, entry.isDirectory() ? 0o700 : 0o600)
  }
}

/** Hashes and flushes every file below a directory. */
class Hashing {
  readonly #worker: Worker
  readonly #result: Promise<ImageFile[]>

  constructor(directory: string) {
    this.#worker = new Worker(new URL('hash-worker.ts', import.meta.url), { workerData: directory })
    this.#result = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve)
      this.#worker.once('error', reject)
      this.#worker.once('exit', () => { reject(new StintError('E_STORE_UNUSABLE', 'hashing ended early')) })
    })
    this.#result.catch(() => undefined) // Observed through finish(); a draft that is given up has no reader.
  }

  async finish(): Promise<ImageFile[]> {
    this.#worker.postMessage('finish')
    return this.#result
  }

  async stop(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Runs by their last image, images of a run by number: the clocks of the nodes that made them may disagree. */
function newestFirst(images: readonly StoredImage[]): StoredImage[] {
  const last = new Map<string, number>()
  for (const { manifest } of images) last.set(manifest.run, Math.max(manifest.createdAt, last.get(manifest.run) ?? 0))
  return images.toSorted(({ manifest: a }, { manifest: b }) => (
    (last.get(b.run) ?? 0) - (last.get(a.run) ?? 0) || a.run.localeCompare(b.run) || b.checkpoint - a.checkpoint || a.member - b.member
  ))
}

/** ENOSPC and its like as E_STORE_FULL, everything else as E_STORE_UNUSABLE. */
function storeError(cause: unknown): StintError {
  const code = systemCode(cause)
  const message = asStintError(cause).message
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new StintError('E_STORE_FULL', `the image store is full: ${message}`, { cause })
    : new StintError('E_STORE_UNUSABLE', `the image store cannot be used: ${message}`, { cause })
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory)
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw storeError(error)
  }
}

/**
 * Images as directories on a POSIX file system: `PATH/JOB/RUN/0001/m0/`. While it is made a checkpoint's name is
 * `.unfinished-NODE-0001` after the node of its coordinator; the rename after the last flush publishes it.
 */
export class PosixStore implements ImageStore {
  readonly name: string
  readonly #path: string
  readonly #writers: number

  /** @param writers how many may write at once, on all nodes; 0: any number */
  constructor(path: string, writers = 0) {
    this.name = path
    this.#path = path
    this.#writers = writers
  }

  assertUsable(bytes: number): void {
    try {
      const stat = lstatSync(this.#path)
      if (!stat.isDirectory() || stat.uid !== 0 || (stat.mode & 0o077) !== 0) {
        throw new StintError('E_STORE_UNUSABLE', `${this.#path} must be a directory of root with mode 0700`)
      }
      accessSync(this.#path, constants.W_OK)
      const { bavail, bsize } = statfsSync(this.#path)
      if (bavail * bsize < bytes) {
        throw new StintError('E_STORE_FULL', `the image needs ${Math.ceil(bytes / 2 ** 20)} MiB, ${this.#path} has ${Math.floor((bavail * bsize) / 2 ** 20)} MiB free`)
      }
    } catch (error) {
      throw isStintError(error) ? error : storeError(error)
    }
  }

  #run(job: number, run: string): string {
    return join(this.#path, String(job), run)
  }

  #unfinished(key: CheckpointKey & { readonly coordinator: string }): string {
    return join(this.#run(key.job, key.run), `${unfinishedPrefix}${key.coordinator}-${checkpointName(key.checkpoint)}`)
  }

  begin(key: DraftKey, follow: boolean): ImageDraft {
    const unfinished = this.#unfinished(key)
    const final = join(this.#run(key.job, key.run), checkpointName(key.checkpoint))
    const memberName = `m${key.member}`
    const directory = join(unfinished, memberName)
    try {
      rmSync(directory, { recursive: true, force: true })
      mkdirSync(directory, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw storeError(error)
    }
    let hashing = follow ? new Hashing(directory) : undefined
    return {
      directory,
      finish: async () => {
        try {
          hashing ??= new Hashing(directory)
          return await hashing.finish()
        } catch (error) {
          throw storeError(error)
        }
      },
      seal: (manifest) => {
        try {
          takeOwnership(directory)
          writeDurably(join(directory, manifestName), sealManifest(manifest))
          for (const at of [directory, unfinished]) syncPath(at)
          return join(final, memberName)
        } catch (error) {
          throw storeError(error)
        }
      },
      [Symbol.asyncDispose]: async () => {
        await hashing?.stop()
        rmSync(directory, { recursive: true, force: true })
        removeIfEmpty(unfinished)
      },
    }
  }

  publish(key: CheckpointKey & { readonly coordinator: string }): void {
    const run = this.#run(key.job, key.run)
    const final = join(run, checkpointName(key.checkpoint))
    try {
      const unfinished = this.#unfinished(key)
      if (existsSync(unfinished) || !existsSync(final)) renameSync(unfinished, final)
      for (const at of [run, dirname(run), this.#path]) syncPath(at)
    } catch (error) {
      throw storeError(error)
    }
  }

  #names(...below: string[]): string[] {
    try {
      return readdirSync(join(this.#path, ...below))
    } catch (error) {
      // A store that is not there has no images; assertUsable tells why when it matters.
      if (['ENOENT', 'ENOTDIR', 'ESTALE', 'EIO'].includes(systemCode(error) ?? '')) return []
      throw storeError(error)
    }
  }

  list(job?: number): StoredImage[] {
    const images: StoredImage[] = []
    for (const jobName of job === undefined ? this.#names().filter((n) => /^\d+$/.test(n)) : [String(job)]) {
      for (const run of this.#names(jobName)) {
        for (const checkpoint of this.#names(jobName, run).filter((n) => /^\d{4,}$/.test(n))) {
          for (const member of this.#names(jobName, run, checkpoint)) {
            const image = this.#image(jobName, run, checkpoint, member)
            if (image !== undefined) images.push(image)
          }
        }
      }
    }
    return newestFirst(images)
  }

  /** What is acted on by its manifest must lie where the manifest says. */
  #image(job: string, run: string, checkpoint: string, member: string): StoredImage | undefined {
    const directory = join(this.#path, job, run, checkpoint, member)
    const manifest = this.#readManifest(directory)
    const agrees = manifest?.job === Number(job) && manifest.run === run && checkpointName(manifest.checkpoint) === checkpoint && `m${manifest.member}` === member
    return agrees ? { directory, manifest } : undefined
  }

  find(key: ImageKey): StoredImage | undefined {
    return this.#image(String(key.job), key.run, checkpointName(key.checkpoint), `m${key.member}`)
  }

  /** The manifest, or undefined where none can be read: such a directory is no sealed image. */
  #readManifest(directory: string): Manifest | undefined {
    try {
      return openManifest(readFileSync(join(directory, manifestName), 'utf8'))
    } catch {
      return undefined
    }
  }

  async verify(image: StoredImage): Promise<void> {
    const hashing = new Hashing(image.directory)
    try {
      const found = new Map((await hashing.finish()).map((file) => [file.path, file]))
      for (const file of image.manifest.files) {
        const now = found.get(file.path)
        if (now?.bytes !== file.bytes || now.xxh128 !== file.xxh128) {
          throw new StintError('E_IMAGE_DAMAGED', `${file.path} of checkpoint ${image.manifest.checkpoint} is not what was written`, { details: { directory: image.directory } })
        }
      }
    } finally {
      await hashing.stop()
    }
  }

  remove(key: CheckpointKey): void {
    const name = checkpointName(key.checkpoint)
    for (const found of this.#names(String(key.job), key.run)) {
      if (found === name || (found.startsWith(unfinishedPrefix) && found.endsWith(`-${name}`))) rmSync(join(this.#run(key.job, key.run), found), { recursive: true, force: true })
    }
  }

  removeRun(job: number, run: string): void {
    rmSync(this.#run(job, run), { recursive: true, force: true })
    removeIfEmpty(join(this.#path, String(job)))
  }

  countAttempt(key: CheckpointKey): number {
    const file = join(this.#run(key.job, key.run), checkpointName(key.checkpoint), attemptsName)
    appendFileSync(file, `${new Date().toISOString()} ${hostname()}\n`, { mode: 0o600 })
    syncPath(file)
    return readFileSync(file, 'utf8').trimEnd().split('\n').length
  }

  takeWriterSlot(): Disposable | undefined {
    return takeSlot(this.#path, this.#writers)
  }

  removeUnfinished(): number {
    const mine = `${unfinishedPrefix}${hostname()}-`
    let removed = 0
    for (const job of this.#names().filter((n) => /^\d+$/.test(n))) {
      for (const run of this.#names(job)) {
        for (const name of this.#names(job, run).filter((n) => n.startsWith(mine))) {
          rmSync(join(this.#path, job, run, name), { recursive: true, force: true })
          removed++
        }
      }
    }
    return removed
  }
}

