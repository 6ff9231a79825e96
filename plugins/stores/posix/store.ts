import { createHash } from 'node:crypto'
import { appendFileSync, chmodSync, existsSync, lchownSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, statfsSync, accessSync, constants } from 'node:fs'
import { dirname, join } from 'node:path'
import { StintError, asStintError, isStintError, systemCode } from '../../../daemon/core/errors.ts'
import { sealingKey, type StoreKey, type StoreKeys } from '../../../daemon/core/store-keys.ts'
import { syncPath, writeDurably } from '../../../daemon/linux/durable.ts'
import { nodeName } from '../../../daemon/linux/node-name.ts'
import type { AdoptedImage, CheckpointKey, DraftKey, ImageDraft, ImageKey, ImageStore, StoredImage, UnfinishedImage, UnreadableImage } from '../store.ts'
import { Hashing } from './hashing.ts'
import { imageKey, newSalt } from './macs.ts'
import { openManifest, sealManifest, type OpenedManifest } from './manifest-file.ts'
import { storeError } from './store-error.ts'
import { Verifier } from './verifier.ts'
import { takeSlot } from './writer-slots.ts'

const manifestName = 'manifest.json'
const finishedName = 'finished'
const memberForm = /^m\d+$/
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
  readonly #verifier: Verifier
  readonly #keys: () => StoreKeys
  readonly #writers: number
  readonly #node: string

  /**
   * @param writers how many may write at once, on all nodes; 0: any number
   * @param node the name by which this node coordinates checkpoints
   * @param keys of the site, as they are at the time of the call
   */
  constructor(path: string, writers = 0, node = nodeName(), keys: () => StoreKeys = () => []) {
    this.name = path
    this.#path = path
    this.#writers = writers
    this.#node = node
    this.#keys = keys
    this.#verifier = new Verifier(keys)
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
    // As it is now: a key that comes meanwhile vouches for the next image.
    const siteKey = sealingKey(this.#keys())
    const salt = siteKey === undefined ? undefined : newSalt()
    const hash = (): Hashing => new Hashing(directory, siteKey === undefined || salt === undefined ? undefined : imageKey(siteKey, salt))
    let hashing = follow ? hash() : undefined
    return {
      directory,
      finish: async () => {
        try {
          hashing ??= hash()
          return await hashing.finish()
        } catch (error) {
          throw storeError(error)
        }
      },
      seal: (manifest) => {
        try {
          takeOwnership(directory)
          writeDurably(join(directory, manifestName), sealManifest(salt === undefined ? manifest : { ...manifest, salt }, siteKey))
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

  #jobNames(job: number | undefined): string[] {
    return job === undefined ? this.#names().filter((name) => /^\d+$/.test(name)) : [String(job)]
  }

  list(job?: number): StoredImage[] {
    const images: StoredImage[] = []
    for (const jobName of this.#jobNames(job)) {
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

  /** @throws StintError E_IMAGE_DAMAGED, E_IMAGE_FORGED: what is acted on by its manifest must lie where the manifest says */
  #open(job: string, run: string, checkpoint: string, member: string): StoredImage {
    const directory = join(this.#path, job, run, checkpoint, member)
    const { manifest, keyId } = this.#readManifest(directory)
    const sealed = [String(manifest.job), manifest.run, checkpointName(manifest.checkpoint), `m${manifest.member}`]
    if (sealed.join('/') !== [job, run, checkpoint, member].join('/')) {
      throw new StintError('E_IMAGE_FORGED', `it was sealed as checkpoint ${manifest.checkpoint} of job ${manifest.job}, member ${manifest.member}, and somebody moved it`)
    }
    return { directory, manifest, keyId }
  }

  #image(job: string, run: string, checkpoint: string, member: string): StoredImage | undefined {
    try {
      return this.#open(job, run, checkpoint, member)
    } catch {
      return undefined // `unreadable` tells why.
    }
  }

  fingerprint({ directory }: StoredImage): string {
    return createHash('sha256').update(readFileSync(join(directory, manifestName))).digest('hex')
  }

  find(key: ImageKey): StoredImage | undefined {
    return this.#image(String(key.job), key.run, checkpointName(key.checkpoint), `m${key.member}`)
  }

  /** @throws StintError E_IMAGE_DAMAGED, also where there is none: such a directory is no sealed image; E_IMAGE_FORGED */
  #readManifest(directory: string): OpenedManifest {
    let text: string
    try {
      text = readFileSync(join(directory, manifestName), 'utf8')
    } catch (cause) {
      throw new StintError('E_IMAGE_DAMAGED', 'the manifest cannot be read', { cause })
    }
    return openManifest(text, this.#keys())
  }

  async verify(image: StoredImage): Promise<void> {
    await this.#verifier.verify(image)
  }

  unreadable(job?: number): UnreadableImage[] {
    return this.#jobNames(job).flatMap((jobName) => this.#names(jobName).flatMap((run) => this.#checkpointNames(Number(jobName), run).flatMap((name) => {
      const directory = join(this.#run(Number(jobName), run), name)
      const error = this.#faultOf(jobName, run, name)
      return error === undefined ? [] : [{ job: Number(jobName), run, checkpoint: Number(name), directory, error }]
    })))
  }

  /** Every member has a manifest: one that cannot be read, or trusted, spoils the checkpoint. */
  #faultOf(job: string, run: string, checkpoint: string): StintError | undefined {
    const members = this.#names(job, run, checkpoint).filter((member) => memberForm.test(member))
    const faults = members.flatMap((member) => {
      try {
        this.#open(job, run, checkpoint, member)
        return []
      } catch (error) {
        return [asStintError(error)]
      }
    })
    if (members.length === 0) return new StintError('E_IMAGE_DAMAGED', 'there is no image in it')
    return faults.find(({ code }) => code === 'E_IMAGE_FORGED') ?? faults[0]
  }

  measure({ directory }: UnreadableImage): { bytes: number; writtenAt: number } {
    return contents(directory)
  }

  async adopt(job?: number): Promise<AdoptedImage[]> {
    const key = sealingKey(this.#keys())
    if (key === undefined) throw new StintError('E_BAD_REQUEST', 'this node has no store key that seals', { hint: 'Make one: `stint key init`, or `stint key rotate` when one is staged.' })
    // Those that no key vouches for are read as if there were none.
    const others = (): StoreKeys => this.#keys().map((one) => ({ ...one, use: 'read' }))
    const lenient = new PosixStore(this.#path, this.#writers, this.#node, others)
    const adopted: AdoptedImage[] = []
    for (const image of lenient.list(job).filter(({ keyId }) => keyId !== key.id)) {
      const { job: jobId, run, checkpoint, member } = image.manifest
      const error = await lenient.#sealAnew(image, key).then(() => undefined, asStintError)
      adopted.push({ job: jobId, run, checkpoint, member, error })
    }
    return adopted
  }

  async #sealAnew(image: StoredImage, key: StoreKey): Promise<void> {
    await this.verify(image)
    const salt = newSalt()
    const hashing = new Hashing(image.directory, imageKey(key, salt))
    try {
      const found = new Map((await hashing.finish()).map((file) => [file.path, file]))
      const files = image.manifest.files.map((file) => {
        const now = found.get(file.path)
        if (now?.xxh3 !== file.xxh3) throw new StintError('E_IMAGE_DAMAGED', `${file.path} is not what was written`)
        return now
      })
      writeDurably(join(image.directory, manifestName), sealManifest({ ...image.manifest, salt, files }, key))
    } finally {
      await hashing.stop()
    }
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
          if (memberForm.test(member)) this.#handOverImage(join(target, checkpoint, member), job, to)
        }
      }
      removeIfEmpty(join(this.#path, String(job)))
    } catch (error) {
      throw storeError(error)
    }
  }

  /** What is damaged or forged stays what it is. */
  #handOverImage(directory: string, from: number, to: number): void {
    let opened: OpenedManifest
    try {
      opened = this.#readManifest(directory)
    } catch {
      return
    }
    const { manifest, keyId } = opened
    const keys = this.#keys()
    // The files' MACs are made with the key that vouches for them now.
    const key = keys.find(({ id }) => id === keyId)
    if (manifest.job === from) writeDurably(join(directory, manifestName), sealManifest({ ...manifest, job: to, restarts: beforeFirstStart }, key))
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
