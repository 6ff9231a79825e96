import type { Context } from '../../context.ts'
import { HealthView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'

export function addHealthRoutes(api: Api, context: Context): void {
  api.get('/v1/health', {
    schema: {
      operationId: 'getHealth', summary: 'How quickly the daemon of this node answers: delays of its event loop, and looks at jobs under way', 'x-permission': 'anyone',
      response: { 200: HealthView, ...errorResponses },
    },
  }, () => ({ node: context.node, version: context.version, ...context.health() }))
}
