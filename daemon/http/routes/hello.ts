import type { Context } from '../../context.ts'
import { HelloView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'

export function addHelloRoutes(api: Api, context: Context): void {
  api.get('/v1/peer/hello', {
    schema: {
      operationId: 'greetPeer', summary: 'Which node answers, its version of Stint, and the ids of its store keys', 'x-permission': 'peer',
      response: { 200: HelloView, ...errorResponses },
    },
  }, () => ({ node: context.node, version: context.version, keys: context.keyring.current().map(({ id, use }) => ({ id, use })) }))
}
