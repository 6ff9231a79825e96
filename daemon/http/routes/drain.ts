import type { Context } from '../../actions/context.ts'
import { drain, type DrainReport } from '../../actions/drain.ts'
import { StintError } from '../../core/errors.ts'
import { DrainRequest, DrainView, errorResponses } from '../schemas.ts'
import { callerUid, type Api } from '../server.ts'
import type { FastifyRequest } from 'fastify'

function assertRoot(request: FastifyRequest): void {
  if (callerUid(request) !== 0) throw new StintError('E_FORBIDDEN', 'only root drains a node', { hint: 'Ask your admin, or save your own job with `stint checkpoint JOB`.' })
}

function view(report: DrainReport): DrainView {
  return { ...report, jobs: report.jobs.map((job) => ({ ...job })) }
}

export function addDrainRoutes(api: Api, context: Context): void {
  api.get('/v1/drain', {
    schema: {
      operationId: 'showDrain', summary: 'The drain of this node that is under way, or the last one since the daemon started', 'x-permission': 'root',
      response: { 200: DrainView, ...errorResponses },
    },
  }, (request) => {
    assertRoot(request)
    if (context.drain.report === undefined) throw new StintError('E_NO_SUCH_JOB', `${context.node} was not drained since stintd started`, { hint: 'Start one with `stint drain`.' })
    return view(context.drain.report)
  })

  api.post('/v1/drain', {
    schema: {
      operationId: 'drainNode', summary: 'Set a node to drain in Slurm, then save and requeue every job on it; answers when all is done, also when some jobs could not be saved', 'x-permission': 'root',
      body: DrainRequest, response: { 200: DrainView, ...errorResponses },
    },
  }, async (request) => {
    assertRoot(request)
    const { node = context.node, reason = 'stint drain' } = request.body
    if (node !== context.node) throw new StintError('E_NODE_ELSEWHERE', `this is ${context.node}, not ${node}`, { hint: `Run \`stint drain\` on ${node}.` })
    return view(await drain(context, reason))
  })
}
