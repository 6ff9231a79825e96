import { Type } from 'typebox'
import type { StoredImage } from '../../../plugins/stores/store.ts'
import type { Context } from '../../context.ts'
import { AdoptRequest, AdoptedView, ImageView, ImagesQuery, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { audit, subjectOf } from '../../images/audit.ts'
import { callerOf, callerUid, requireRoot } from '../caller.ts'
import { imageView, unreadableView } from '../views.ts'

function othersOf({ manifest }: StoredImage, images: readonly StoredImage[]): StoredImage[] {
  return images.filter((other) => other.manifest.run === manifest.run && other.manifest.checkpoint === manifest.checkpoint && other.manifest.member !== 0)
}

/** A run may be unknown on this node: it never ran here, or its rows are gone. */
function subjectFor(context: Context, job: number, run: string): ReturnType<typeof subjectOf> {
  const known = context.catalogue.runs.get(run)
  return known === undefined ? { job, run, owner: null, user: null } : { ...subjectOf(known), job }
}

export function addImageRoutes(api: Api, context: Context): void {
  api.get('/v1/images', {
    config: { cost: 5 },
    schema: {
      operationId: 'listImages', summary: 'Checkpoints in the store, newest first; sizes over all members. Those that cannot be read or trusted come last', 'x-permission': 'own',
      querystring: ImagesQuery, response: { 200: Type.Array(ImageView), ...errorResponses },
    },
  }, (request) => {
    const uid = callerUid(request)
    const images = context.store.list(request.query.job).filter((image) => uid === 0 || image.manifest.uid === uid)
    // Whose a forged image is nobody can tell by it; the run's owner is on record where the run was.
    const odd = context.store.unreadable(request.query.job).filter((image) => uid === 0 || context.catalogue.runs.get(image.run)?.uid === uid)
    return [
      ...images.filter((image) => image.manifest.member === 0).map((first) => imageView([first, ...othersOf(first, images)])),
      ...odd.map((image) => unreadableView(image, context.store.measure(image))),
    ]
  })
  api.post('/v1/images/adopt', {
    schema: {
      operationId: 'adoptImages', summary: 'Have the store key that seals vouch for images that no key, or another one, vouches for', 'x-permission': 'root',
      body: AdoptRequest, response: { 200: Type.Array(AdoptedView), ...errorResponses },
    },
  }, async (request) => {
    requireRoot(request)
    const adopted = await context.store.adopt(request.body.job)
    for (const { error, ...image } of adopted) {
      context.log.warn({ ...image, err: error }, error === undefined ? 'image adopted' : 'image not adopted')
      const { job, run, checkpoint, member } = image
      audit(context, callerOf(request), { action: 'adopt', subject: subjectFor(context, job, run), checkpoint, error, detail: { member } })
    }
    return adopted.map(({ error, job, run, checkpoint, member }) => ({ job, run, checkpoint, member, error: error?.message ?? null }))
  })
}
