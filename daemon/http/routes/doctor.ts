import { Type } from 'typebox'
import type { Context } from '../../actions/context.ts'
import { examine } from '../../actions/doctor.ts'
import { FindingView, errorResponses } from '../schemas.ts'
import { callerUid, type Api } from '../server.ts'

export function addDoctorRoutes(api: Api, context: Context): void {
  api.get('/v1/doctor', {
    schema: {
      operationId: 'examineNode', summary: 'Every precondition on this node, each with its remedy', 'x-permission': 'anyone',
      response: { 200: Type.Array(FindingView), ...errorResponses },
    },
  }, async (request) => examine(context, { probe: callerUid(request) === 0 }))
}
