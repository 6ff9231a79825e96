import { Type } from 'typebox'
import type { Context } from '../../context.ts'
import { reclaim } from '../../images/prune.ts'
import { ReclaimRequest, ReclaimView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerOf } from '../caller.ts'

export function addReclaimRoutes(api: Api, context: Context): void {
  api.post('/v1/reclaim', {
    schema: {
      operationId: 'reclaimImages', summary: 'Remove images that are of no more use; with dryRun only say which', 'x-permission': 'own',
      body: ReclaimRequest, response: { 200: Type.Array(ReclaimView), ...errorResponses },
    },
  }, async (request) => {
    const by = callerOf(request)
    return reclaim(context, { by, uid: by.uid === 0 ? undefined : by.uid ?? undefined, dryRun: request.body.dryRun ?? false, now: request.body.now ?? false })
  })
}
