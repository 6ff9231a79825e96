import { Type } from 'typebox'
import type { Context, Sandbox } from '../../context.ts'
import { check } from '../../run/check.ts'
import { saveNow } from '../../run/save.ts'
import type { Run } from '../../catalogue/runs.ts'
import { assertCheckpointsLeft, withRequestPlace } from '../../core/budgets.ts'
import { StintError } from '../../core/errors.ts'
import { CheckView, CheckpointOnBehalf, CheckpointRequest, CheckpointView, JobParams, OnBehalf, RunView, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'
import { callerOf, callerUid } from '../caller.ts'
import { assertMayAct, assertUserMayAct } from '../server.ts'
import { checkpointViews, runView } from '../views.ts'
import type { Actor } from '../../images/audit.ts'

/** @throws StintError E_NO_SUCH_JOB */
function requireRun(context: Context, job: number): Run {
  const run = context.sandboxes.get(job)?.run.id ?? context.catalogue.runs.newestOfJob(job)?.id
  const row = run === undefined ? undefined : context.catalogue.runs.get(run)
  if (row === undefined) throw new StintError('E_NO_SUCH_JOB', `job ${job} has no run on ${context.node}`)
  return row
}

/** @throws StintError E_NOT_RUNNING, E_NO_SUCH_JOB when it has no live sandbox anywhere */
async function coordinatorOf(context: Context, job: number): Promise<string> {
  const sandbox = context.sandboxes.get(job)
  if (sandbox !== undefined) return sandbox.coordinator ?? context.node
  const known = await context.scontrol.showJob(job).catch(() => undefined)
  if (known === undefined) throw new StintError('E_NO_SUCH_JOB', `Slurm knows no job ${job}`)
  if (known.state === 'RUNNING' && known.batchHost !== undefined && known.batchHost !== context.node) return known.batchHost
  throw new StintError('E_NOT_RUNNING', `job ${job} (${known.state}) has no sandbox on ${context.node}`)
}

/** A job that is coordinated here. @throws StintError E_NOT_RUNNING, E_FORBIDDEN */
function requireOwn(context: Context, job: number, uid: number): Sandbox {
  const sandbox = context.sandboxes.get(job)
  if (sandbox === undefined || sandbox.coordinator !== undefined) throw new StintError('E_NOT_RUNNING', `job ${job} has no sandbox on ${context.node} that is decided here`)
  assertUserMayAct(uid, sandbox.run.uid)
  return sandbox
}

async function checkHere(context: Context, job: number, uid: number): Promise<CheckView> {
  const found = await check(context, requireOwn(context, job, uid))
  return { job, processes: found.processes, bytes: found.bytes, predictedSeconds: found.predictedSeconds, carried: [...found.carried], obstacles: [...found.obstacles] }
}

async function checkpointHere(context: Context, job: number, by: Actor & { readonly uid: number }, keepRunning: boolean): Promise<CheckpointView> {
  const sandbox = requireOwn(context, job, by.uid)
  assertCheckpointsLeft(context.budgets, context.config.limits, by.uid, performance.now())
  const { number } = await saveNow(context, sandbox, { trigger: 'request', keepRunning, by })
  const view = checkpointViews(context, sandbox.run.id).find((v) => v.number === number)
  if (view === undefined) throw new StintError('E_INTERNAL', `checkpoint ${number} is not in the catalogue`)
  return view
}

export function addRunRoutes(api: Api, context: Context): void {
  api.get('/v1/runs', {
    config: { cost: 5 },
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
    config: { cost: 5 },
    schema: {
      operationId: 'checkRun', summary: 'Whether a running job can be saved, and what that would cost', 'x-permission': 'owner',
      params: JobParams, response: { 200: CheckView, ...errorResponses },
    },
  }, async (request) => {
    const { job } = request.params
    const uid = callerUid(request)
    const coordinator = await coordinatorOf(context, job)
    return coordinator === context.node ? checkHere(context, job, uid) : context.cluster.forUser<CheckView>(coordinator, job, 'check', { uid })
  })

  api.post('/v1/runs/:job/checkpoints', {
    schema: {
      operationId: 'checkpointRun', summary: 'Save a running job now, on whatever node it runs; without keepRunning it ends there and is requeued', 'x-permission': 'owner',
      params: JobParams, body: CheckpointRequest, response: { 201: CheckpointView, ...errorResponses },
    },
  }, async (request, reply) => {
    const { job } = request.params
    const wish = { uid: callerUid(request), keepRunning: request.body.keepRunning ?? false }
    const coordinator = await coordinatorOf(context, job)
    return reply.status(201).send(coordinator === context.node ? await checkpointHere(context, job, { ...callerOf(request), uid: wish.uid }, wish.keepRunning) : await context.cluster.forUser<CheckpointView>(coordinator, job, 'checkpoints', wish))
  })
}

/** What users of other nodes ask about a job that is coordinated here; their own daemons know who they are. */
export function addForwardedRoutes(api: Api, context: Context): void {
  api.post('/v1/peer/jobs/:job/check', {
    schema: { operationId: 'checkRunFor', summary: 'Whether a running job can be saved, for a user of another node', 'x-permission': 'peer', params: JobParams, body: OnBehalf, response: { 200: CheckView, ...errorResponses } },
  }, async (request) => withRequestPlace(context.budgets, context.config.limits, request.body.uid, async () => checkHere(context, request.params.job, request.body.uid)))

  api.post('/v1/peer/jobs/:job/checkpoints', {
    schema: { operationId: 'checkpointRunFor', summary: 'Save a running job now, for a user of another node', 'x-permission': 'peer', params: JobParams, body: CheckpointOnBehalf, response: { 200: CheckpointView, ...errorResponses } },
  }, async (request) => withRequestPlace(context.budgets, context.config.limits, request.body.uid, async () => checkpointHere(context, request.params.job, { uid: request.body.uid, pid: null, channel: 'peer' }, request.body.keepRunning)))
}
