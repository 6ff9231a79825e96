import { Type } from 'typebox'
import type { Context } from '../../context.ts'
import { examine } from '../../node/doctor.ts'
import { FindingView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerUid } from '../server.ts'

export function addDoctorRoutes(api: Api, context: Context): void {
  api.get('/v1/doctor', {
    schema: {
      operationId: 'examineNode', summary: 'Every precondition on this node, each with its remedy', 'x-permission': 'anyone',
      response: { 200: Type.Array(FindingView), ...errorResponses },
    },
  }, async (request) => examine(context, { probe: callerUid(request) === 0 }))
}
