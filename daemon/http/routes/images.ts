import { Type } from 'typebox'
import type { StoredImage } from '../../../plugins/stores/store.ts'
import type { Context } from '../../context.ts'
import { ImageView, ImagesQuery, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerUid } from '../caller.ts'
import { imageView } from '../views.ts'

function othersOf({ manifest }: StoredImage, images: readonly StoredImage[]): StoredImage[] {
  return images.filter((other) => other.manifest.run === manifest.run && other.manifest.checkpoint === manifest.checkpoint && other.manifest.member !== 0)
}

export function addImageRoutes(api: Api, context: Context): void {
  api.get('/v1/images', {
    config: { cost: 5 },
    schema: {
      operationId: 'listImages', summary: 'Sealed checkpoints in the store, newest first; sizes over all members', 'x-permission': 'own',
      querystring: ImagesQuery, response: { 200: Type.Array(ImageView), ...errorResponses },
    },
  }, (request) => {
    const uid = callerUid(request)
    const images = context.store.list(request.query.job).filter((image) => uid === 0 || image.manifest.uid === uid)
    return images.filter((image) => image.manifest.member === 0).map((first) => imageView([first, ...othersOf(first, images)]))
  })
}
