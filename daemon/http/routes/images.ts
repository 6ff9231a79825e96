import { Type } from 'typebox'
import type { Context } from '../../actions/context.ts'
import { ImageView, ImagesQuery, errorResponses } from '../schemas.ts'
import { callerUid, type Api } from '../server.ts'
import { imageView } from '../views.ts'

export function addImageRoutes(api: Api, context: Context): void {
  api.get('/v1/images', {
    schema: {
      operationId: 'listImages', summary: 'Sealed images in the store, newest first', 'x-permission': 'own',
      querystring: ImagesQuery, response: { 200: Type.Array(ImageView), ...errorResponses },
    },
  }, (request) => {
    const uid = callerUid(request)
    return context.store.list(request.query.job).filter((image) => uid === 0 || image.manifest.uid === uid).map(imageView)
  })
}
