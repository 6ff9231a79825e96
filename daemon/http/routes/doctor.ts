import { Type } from 'typebox'
import type { Context } from '../../context.ts'
import { SharedExamination, examine } from '../../node/doctor.ts'
import { FindingView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerUid } from '../caller.ts'

export function addDoctorRoutes(api: Api, context: Context): void {
  const shared = new SharedExamination(context)
  api.get('/v1/doctor', {
    schema: {
      operationId: 'examineNode', summary: 'Every precondition on this node, each with its remedy', 'x-permission': 'anyone',
      response: { 200: Type.Array(FindingView), ...errorResponses },
    },
  }, async (request) => (callerUid(request) === 0 ? examine(context, { probe: true }) : shared.findings()))
}
