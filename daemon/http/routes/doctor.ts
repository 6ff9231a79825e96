import { Type } from 'typebox'
import type { Context } from '../../actions/context.ts'
import { examine } from '../../actions/doctor.ts'
import { ErrorBody, FindingView } from '../schemas.ts'
import type { Api } from '../server.ts'

export function addDoctorRoutes(api: Api, context: Context): void {
  api.get('/v1/doctor', { schema: { operationId: 'examineNode', response: { 200: Type.Array(FindingView), '4xx': ErrorBody, '5xx': ErrorBody } } }, async () => examine(context))
}
