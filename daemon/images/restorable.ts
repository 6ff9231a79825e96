import type { StoredImage } from '../../plugins/stores/store.ts'
import type { Context } from '../context.ts'

/** Member 0's sealed images of a job that its owner's requeued job may continue from, newest first. */
export function restorableImages(context: Context, jobId: number, uid: number, restarts: number): StoredImage[] {
  return context.store.list(jobId).filter(({ manifest }) => manifest.uid === uid && manifest.restarts < restarts && manifest.member === 0)
}
