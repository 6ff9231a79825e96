import { Type } from 'typebox'
import type { Context } from '../../context.ts'
import { AuditQuery, AuditView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerUid } from '../caller.ts'

export function addAuditRoutes(api: Api, context: Context): void {
  api.get('/v1/audit', {
    schema: {
      operationId: 'listAudit', summary: 'Who has saved, restored, removed or drained what on this node, newest first, at most 1000; users see what they asked for and what was done to their jobs', 'x-permission': 'own',
      querystring: AuditQuery, response: { 200: Type.Array(AuditView), ...errorResponses },
    },
  }, (request) => {
    const uid = callerUid(request)
    return context.catalogue.audit.list({ visibleTo: uid === 0 ? undefined : uid, ...request.query })
  })
}
