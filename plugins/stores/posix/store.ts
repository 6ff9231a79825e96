import { appendFileSync, chmodSync, existsSync, lchownSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, statfsSync, accessSync, constants } from 'node:fs'
import { dirname, join } from 'node:path'
import { StintError, isStintError, systemCode } from '../../../daemon/core/errors.ts'
import type { Manifest } from '../../../daemon/core/manifest.ts'
import { syncPath, writeDurably } from '../../../daemon/linux/durable.ts'
import { nodeName } from '../../../daemon/linux/node-name.ts'
import type { CheckpointKey, DraftKey, ImageDraft, ImageKey, ImageStore, StoredImage, UnfinishedImage, UnreadableImage } from '../store.ts'
import { Hashing } from './hashing.ts'
import { openManifest, sealManifest } from './manifest-file.ts'
import { storeError } from './store-error.ts'
import { Verifier } from './verifier.ts'
import { takeSlot } from './writer-slots.ts'

const manifestName = 'manifest.json'
const finishedName = 'finished'
/** In a manifest: older than the first start of its job, which so may continue from it. */
const beforeFirstStart = -1
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

function readIfThere(path: string): string | undefined {
  return unlessMissing(() => readFileSync(path, 'utf8'))
}

/** What lies below a directory that may vanish meanwhile. */
function contents(directory: string): { bytes: number; writtenAt: number } {
  let [bytes, writtenAt] = [0, 0]
  const entries = unlessMissing(() => readdirSync(directory, { recursive: true, withFileTypes: true })) ?? []
  for (const path of [directory, ...entries.map((entry) => join(entry.parentPath, entry.name))]) {
    const stat = unlessMissing(() => lstatSync(path))
    if (stat?.isFile() === true) bytes += stat.size
    writtenAt = Math.max(writtenAt, stat?.mtimeMs ?? 0)
  }
  return { bytes, writtenAt }
}

function unlessMissing<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw storeError(error)
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
  readonly #verifier = new Verifier()
  readonly #writers: number
  readonly #node: string

  /**
   * @param writers how many may write at once, on all nodes; 0: any number
   * @param node the name by which this node coordinates checkpoints
   */
  constructor(path: string, writers = 0, node = nodeName()) {
    this.name = path
    this.#path = path
    this.#writers = writers
    this.#node = node
  }

  assertUsable(bytes: number): number {
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
      return bavail * bsize
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

  #checkpointNames(job: number, run: string): string[] {
    return this.#names(String(job), run).filter((name) => /^\d{4,}$/.test(name))
  }

  list(job?: number): StoredImage[] {
    const images: StoredImage[] = []
    for (const jobName of job === undefined ? this.#names().filter((n) => /^\d+$/.test(n)) : [String(job)]) {
      for (const run of this.#names(jobName)) {
        for (const checkpoint of this.#checkpointNames(Number(jobName), run)) {
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
    await this.#verifier.verify(image)
  }

  unreadable(job: number): UnreadableImage[] {
    return this.#names(String(job)).flatMap((run) => this.#checkpointNames(job, run).flatMap((name) => {
      const directory = join(this.#run(job, run), name)
      // Every member has a manifest: one that cannot be read spoils the checkpoint.
      const members = this.#names(String(job), run, name).filter((member) => /^m\d+$/.test(member))
      const readable = members.length > 0 && members.every((member) => this.#readManifest(join(directory, member)) !== undefined)
      return readable ? [] : [{ run, checkpoint: Number(name), directory }]
    }))
  }

  highestNumber(job: number, run: string): number {
    return Math.max(0, ...this.#checkpointNames(job, run).map(Number))
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

  handOver(job: number, run: string, to: number): void {
    try {
      const [source, target] = [this.#run(job, run), this.#run(to, run)]
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 })
      // Whoever calls again after a crash in between finds what is left to do: the move, then every manifest of its own.
      if (existsSync(source)) renameSync(source, target)
      for (const at of [dirname(target), this.#path]) syncPath(at)
      for (const checkpoint of this.#checkpointNames(to, run)) {
        for (const member of this.#names(String(to), run, checkpoint)) {
          const manifest = this.#readManifest(join(target, checkpoint, member))
          if (manifest?.job === job) writeDurably(join(target, checkpoint, member, manifestName), sealManifest({ ...manifest, job: to, restarts: beforeFirstStart }))
        }
      }
      removeIfEmpty(join(this.#path, String(job)))
    } catch (error) {
      throw storeError(error)
    }
  }

  markFinished(job: number, run: string): void {
    writeDurably(join(this.#run(job, run), finishedName), `${new Date().toISOString()}\n`)
  }

  finishedAt(job: number, run: string): number | undefined {
    const text = readIfThere(join(this.#run(job, run), finishedName))
    return text === undefined ? undefined : Date.parse(text.trim())
  }

  #counter(key: CheckpointKey, what: 'attempt' | 'move'): string {
    return join(this.#run(key.job, key.run), checkpointName(key.checkpoint), `${what}s`)
  }

  count(key: CheckpointKey, what: 'attempt' | 'move'): number {
    const file = this.#counter(key, what)
    appendFileSync(file, `${new Date().toISOString()} ${this.#node}\n`, { mode: 0o600 })
    syncPath(file)
    return this.counted(key, what)
  }

  counted(key: CheckpointKey, what: 'attempt' | 'move'): number {
    return (readIfThere(this.#counter(key, what)) ?? '').split('\n').filter((line) => line !== '').length
  }

  clearAttempts(key: CheckpointKey): void {
    for (const what of ['attempt', 'move'] as const) rmSync(this.#counter(key, what), { force: true })
  }

  unfinished(): UnfinishedImage[] {
    return this.#names().filter((name) => /^\d+$/.test(name)).flatMap((job) => this.#names(job).flatMap((run) => this.#names(job, run).flatMap((name) => {
      const match = name.startsWith(unfinishedPrefix) ? /^(.+)-(\d{4,})$/.exec(name.slice(unfinishedPrefix.length)) : null
      const directory = join(this.#path, job, run, name)
      return match?.[1] === undefined ? [] : [{ job: Number(job), run, node: match[1], checkpoint: Number(match[2]), directory, ...contents(directory) }]
    })))
  }

  removeUnfinishedImage(image: UnfinishedImage): void {
    rmSync(image.directory, { recursive: true, force: true })
    for (const directory of [this.#run(image.job, image.run), join(this.#path, String(image.job))]) removeIfEmpty(directory)
  }

  takeWriterSlot(uid: number): Disposable | undefined {
    return takeSlot(this.#path, this.#writers, uid)
  }

  removeUnfinished(): number {
    const mine = this.unfinished().filter((image) => image.node === this.#node)
    for (const image of mine) rmSync(image.directory, { recursive: true, force: true })
    return mine.length
  }
}
