import type { Context } from '../../context.ts'
import { drain } from '../../node/drain.ts'
import { DrainReport } from '../../core/drain.ts'
import { StintError } from '../../core/errors.ts'
import { DrainQuery, DrainRequest, PeerDrainRequest, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerOf, callerUid } from '../caller.ts'
import type { FastifyRequest } from 'fastify'

function assertRoot(request: FastifyRequest): void {
  if (callerUid(request) !== 0) throw new StintError('E_FORBIDDEN', 'only root drains a node', { hint: 'Ask your admin, or save your own job with `stint checkpoint JOB`.' })
}

/** What becomes of the report while it is sent must not change it half. @throws StintError E_NO_SUCH_JOB */
function reportOf({ drain: { report }, node }: Context): DrainReport {
  if (report === undefined) throw new StintError('E_NO_SUCH_JOB', `${node} was not drained since stintd started`, { hint: 'Start one with `stint drain`.' })
  return structuredClone(report)
}

/** For admins, on whatever node they are. */
export function addDrainRoutes(api: Api, context: Context): void {
  api.get('/v1/drain', {
    schema: {
      operationId: 'showDrain', summary: 'The drain of a node, by default this one, that is under way, or the last one since its daemon started', 'x-permission': 'root',
      querystring: DrainQuery, response: { 200: DrainReport, ...errorResponses },
    },
  }, async (request) => {
    assertRoot(request)
    const { node = context.node } = request.query
    return node === context.node ? reportOf(context) : context.cluster.drainReport(node)
  })

  api.post('/v1/drain', {
    schema: {
      operationId: 'drainNode', summary: 'Set a node, by default this one, to drain in Slurm, then save and requeue every job on it; answers when all is done, also when some jobs could not be saved', 'x-permission': 'root',
      body: DrainRequest, response: { 200: DrainReport, ...errorResponses },
    },
  }, async (request) => {
    assertRoot(request)
    const { node = context.node, reason = 'stint drain' } = request.body
    return node === context.node ? drain(context, reason, callerOf(request)) : context.cluster.drain(node, reason)
  })
}

/** For the daemon of the node where the admin is. */
export function addPeerDrainRoutes(api: Api, context: Context): void {
  api.get('/v1/peer/drain', {
    schema: { operationId: 'showDrain', summary: 'The drain of this node', 'x-permission': 'peer', response: { 200: DrainReport, ...errorResponses } },
  }, () => reportOf(context))

  api.post('/v1/peer/drain', {
    schema: { operationId: 'drainNode', summary: 'Drain this node; answers when all is done', 'x-permission': 'peer', body: PeerDrainRequest, response: { 200: DrainReport, ...errorResponses } },
  }, async (request) => drain(context, request.body.reason, { uid: 0, pid: null, channel: 'peer' }))
}
