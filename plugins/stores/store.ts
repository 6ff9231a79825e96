import type { ImageFile, Manifest } from '../../daemon/core/manifest.ts'

/** Names one image: a member's part of a checkpoint. */
export interface ImageKey {
  readonly job: number
  readonly run: string
  readonly checkpoint: number
  readonly member: number
}

/** An image in the making. Nothing restores it until `seal` has returned. */
export interface ImageDraft extends AsyncDisposable {
  /** Where the engine writes: a directory of root that no user can reach. */
  readonly directory: string
  /** Waits until every byte so far is hashed and on the device. */
  finish(): Promise<ImageFile[]>
  /** Writes the manifest and publishes the image. @returns its final directory */
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
  begin(key: ImageKey, follow: boolean): ImageDraft
  /** Sealed images of a job, or of all jobs; newest first. */
  list(job?: number): StoredImage[]
  /** Compares every file with the manifest. @throws StintError E_IMAGE_DAMAGED */
  verify(image: StoredImage): Promise<void>
  /** Removes one sealed checkpoint. */
  remove(key: Pick<ImageKey, 'job' | 'run' | 'checkpoint'>): void
  removeRun(job: number, run: string): void
  /** Notes that a checkpoint is about to be restored. @returns how often that was, this time included */
  countAttempt(key: Pick<ImageKey, 'job' | 'run' | 'checkpoint'>): number
  /** Removes unfinished images that this node began. */
  removeUnfinished(): number
}
