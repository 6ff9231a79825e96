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
}

/** Where images live. A site may bring another one. */
export interface ImageStore {
  readonly name: string
  /** @throws StintError E_STORE_UNUSABLE, E_STORE_FULL when an image of `bytes` would not fit */
  assertUsable(bytes: number): void
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
  /** Compares every file with the manifest. @throws StintError E_IMAGE_DAMAGED */
  verify(image: StoredImage): Promise<void>
  /** Removes one checkpoint, published or not. */
  remove(key: CheckpointKey): void
  removeRun(job: number, run: string): void
  /** Notes that a checkpoint is about to be restored. @returns how often that was, this time included */
  countAttempt(key: CheckpointKey): number
  /** A place among the writers of all nodes, to be disposed of; undefined when all are taken. */
  takeWriterSlot(): Disposable | undefined
  /** Removes unfinished checkpoints that this node coordinated. */
  removeUnfinished(): number
}
