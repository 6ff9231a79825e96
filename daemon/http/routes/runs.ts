import { Type } from 'typebox'
import type { Context, Sandbox } from '../../actions/context.ts'
import { check } from '../../actions/check.ts'
import { saveNow } from '../../actions/save.ts'
import type { Run } from '../../catalogue/runs.ts'
import { StintError } from '../../core/errors.ts'
import { CheckView, CheckpointRequest, CheckpointView, JobParams, RunView, errorResponses } from '../schemas.ts'
import { assertMayAct, callerUid, type Api } from '../server.ts'
import { checkpointViews, runView } from '../views.ts'

/** @throws StintError E_NO_SUCH_JOB */
function requireRun(context: Context, job: number): Run {
  const run = context.sandboxes.get(job)?.run.id ?? context.catalogue.runs.newestOfJob(job)?.id
  const row = run === undefined ? undefined : context.catalogue.runs.get(run)
  if (row === undefined) throw new StintError('E_NO_SUCH_JOB', `job ${job} has no run on ${context.node}`)
  return row
}

/** @throws StintError E_JOB_ELSEWHERE, E_NO_SUCH_JOB, E_NOT_RUNNING when there is no live sandbox of it here */
async function requireSandbox(context: Context, job: number): Promise<Sandbox> {
  const sandbox = context.sandboxes.get(job)
  if (sandbox?.coordinator !== undefined) throw new StintError('E_JOB_ELSEWHERE', `job ${job} is decided on ${sandbox.coordinator}`, { hint: `Run the command on ${sandbox.coordinator}.` })
  if (sandbox !== undefined) return sandbox
  const known = await context.scontrol.showJob(job).catch(() => undefined)
  if (known === undefined) throw new StintError('E_NO_SUCH_JOB', `Slurm knows no job ${job}`)
  if (known.state === 'RUNNING' && known.batchHost !== undefined && known.batchHost !== context.node) {
    throw new StintError('E_JOB_ELSEWHERE', `job ${job} runs on ${known.batchHost}`, { hint: `Run the command on ${known.batchHost}.` })
  }
  throw new StintError('E_NOT_RUNNING', `job ${job} (${known.state}) has no sandbox on ${context.node}`)
}

export function addRunRoutes(api: Api, context: Context): void {
  api.get('/v1/runs', {
    schema: {
      operationId: 'listRuns', summary: 'Runs on this node, newest first', 'x-permission': 'own',
      response: { 200: Type.Array(RunView), ...errorResponses },
    },
  }, (request) => {
    const uid = callerUid(request)
    return context.catalogue.runs.list(uid === 0 ? undefined : uid).map((run) => runView(context, run))
  })

  api.get('/v1/runs/:job', {
    schema: {
      operationId: 'showRun', summary: 'The newest run of a job', 'x-permission': 'owner',
      params: JobParams, response: { 200: RunView, ...errorResponses },
    },
  }, (request) => {
    const run = requireRun(context, request.params.job)
    assertMayAct(request, run.uid)
    return runView(context, run)
  })

  api.get('/v1/runs/:job/check', {
    schema: {
      operationId: 'checkRun', summary: 'Whether a running job can be saved, and what that would cost', 'x-permission': 'owner',
      params: JobParams, response: { 200: CheckView, ...errorResponses },
    },
  }, async (request) => {
    const sandbox = await requireSandbox(context, request.params.job)
    assertMayAct(request, sandbox.run.uid)
    const found = await check(context, sandbox)
    return { job: request.params.job, processes: found.processes, bytes: found.bytes, predictedSeconds: found.predictedSeconds, carried: [...found.carried], obstacles: [...found.obstacles] }
  })

  api.post('/v1/runs/:job/checkpoints', {
    schema: {
      operationId: 'checkpointRun', summary: 'Save a running job now; without keepRunning it ends here and is requeued', 'x-permission': 'owner',
      params: JobParams, body: CheckpointRequest, response: { 201: CheckpointView, ...errorResponses },
    },
  }, async (request, reply) => {
    const sandbox = await requireSandbox(context, request.params.job)
    assertMayAct(request, sandbox.run.uid)
    const { number } = await saveNow(context, sandbox, { trigger: 'request', keepRunning: request.body.keepRunning ?? false })
    const view = checkpointViews(context, sandbox.run.id).find((v) => v.number === number)
    if (view === undefined) throw new StintError('E_INTERNAL', `checkpoint ${number} is not in the catalogue`)
    return reply.status(201).send(view)
  })
}
