import type { StintError } from '../../daemon/core/errors.ts'
import type { ImageFile, Manifest } from '../../daemon/core/manifest.ts'

/** Names one image: a member's part of a checkpoint. */
export interface ImageKey {
  readonly job: number
  readonly run: string
  readonly checkpoint: number
  readonly member: number
}

/** Names a checkpoint: the images of all its members. */
export type CheckpointKey = Pick<ImageKey, 'job' | 'run' | 'checkpoint'>

/** A checkpoint in the making belongs to the node of the coordinator, whichever nodes its members write from. */
export interface DraftKey extends ImageKey {
  readonly coordinator: string
}

/** An image in the making. Disposed of without a `publish` of its checkpoint, it is dropped. */
export interface ImageDraft extends AsyncDisposable {
  /** Where the engine writes: a directory of root that no user can reach. */
  readonly directory: string
  /** Waits until every byte so far is hashed and on the device. */
  finish(): Promise<ImageFile[]>
  /** Writes the manifest: durable from here on, restorable once its checkpoint is published. @returns its final directory */
  seal(manifest: Manifest): string
}

export interface StoredImage {
  readonly directory: string
  readonly manifest: Manifest
  /** The store key that vouches for the manifest; undefined where none does and none need. */
  readonly keyId?: string | undefined
}

/** A checkpoint that must not be used: one of its members has no manifest, a damaged one, or one that nobody vouches for. */
export interface UnreadableImage {
  readonly job: number
  readonly run: string
  readonly checkpoint: number
  readonly directory: string
  /** E_IMAGE_DAMAGED or E_IMAGE_FORGED. */
  readonly error: StintError
}

/** What came of bringing an image under the key that seals. */
export interface AdoptedImage extends ImageKey {
  /** Why it was left as it is. */
  readonly error: StintError | undefined
}

/** A checkpoint in the making, or what is left of one. */
export interface UnfinishedImage {
  readonly job: number
  readonly run: string
  /** Of its coordinator. */
  readonly node: string
  readonly checkpoint: number
  readonly bytes: number
  /** When anything in it was last written, milliseconds since 1970. */
  readonly writtenAt: number
  readonly directory: string
}

/** Where images live. A site may bring another one. */
export interface ImageStore {
  /** SHA-256 of an image's manifest as it is stored, in hexadecimal. */
  fingerprint(image: StoredImage): string
  readonly name: string
  /** @returns bytes that are free @throws StintError E_STORE_UNUSABLE, E_STORE_FULL when an image of `bytes` would not fit */
  assertUsable(bytes: number): number
  /**
   * @param follow hash and flush while the engine still writes: sooner sealed, but the engine is slower, so not for a payload
   *   that waits for it to run on
   */
  begin(key: DraftKey, follow: boolean): ImageDraft
  /**
   * Gives a checkpoint whose members are all sealed its final name: from here on it can be restored. On a store that all nodes
   * share the first caller does it for all; calling again is no error.
   */
  publish(key: CheckpointKey & { readonly coordinator: string }): void
  /** Sealed images of a job, or of all jobs; newest first. */
  list(job?: number): StoredImage[]
  /** One sealed image, or undefined where there is none. */
  find(key: ImageKey): StoredImage | undefined
  /** Published checkpoints of a job, or of all jobs, that `list` passes over because their manifests cannot be read or trusted. */
  unreadable(job?: number): UnreadableImage[]
  /** Bytes in a directory of `unreadable`, and when anything in it was last written, milliseconds since 1970. */
  measure(image: UnreadableImage): { readonly bytes: number; readonly writtenAt: number }
  /** The highest number that a checkpoint of this run has, readable or not; 0 without any. */
  highestNumber(job: number, run: string): number
  /**
   * Compares every file with the manifest. What was compared a short time ago and has not been touched since is not read again;
   * calls at the same time share one reading.
   * @throws StintError E_IMAGE_DAMAGED; E_IMAGE_FORGED where somebody saw to it that the checksum is right
   */
  verify(image: StoredImage): Promise<void>
  /**
   * Has the key that seals vouch for images that no key, or another one, vouches for, once they are found whole. Whoever calls this
   * trusts what lies in the store now. @throws StintError E_BAD_REQUEST when there is no key that seals
   */
  adopt(job?: number): Promise<AdoptedImage[]>
  /** Removes one checkpoint, published or not. */
  remove(key: CheckpointKey): void
  removeRun(job: number, run: string): void
  /** Moves a run's images to another job of the same owner, as made before that job's first start. */
  handOver(job: number, run: string, to: number): void
  /** Notes that a run has come to its own end. */
  markFinished(job: number, run: string): void
  /** When it did, milliseconds since 1970; undefined while it has not. */
  finishedAt(job: number, run: string): number | undefined
  /**
   * Notes that a checkpoint is about to be restored (`attempt`), or leaves a node that it does not fit (`move`).
   * @returns how often that was, this time included
   */
  count(key: CheckpointKey, what: 'attempt' | 'move'): number
  /** How often that was. */
  counted(key: CheckpointKey, what: 'attempt' | 'move'): number
  /** Forgets attempts and moves: one of them came through, or somebody wants it tried again. */
  clearAttempts(key: CheckpointKey): void
  /** Checkpoints in the making on any node. */
  unfinished(): UnfinishedImage[]
  removeUnfinishedImage(image: UnfinishedImage): void
  /** A place among the writers of all nodes, to be disposed of; undefined when all are taken, or this user has as many as one user may have. */
  takeWriterSlot(uid: number): Disposable | undefined
  /** Removes unfinished checkpoints that this node coordinated. */
  removeUnfinished(): number
}
