import { Type, type Static, type TSchema } from 'typebox'
import { answerRelayed } from '../../run/launch-requests.ts'
import { answerSignalOf } from '../../run/monitor-messages.ts'
import type { Context, Sandbox } from '../../context.ts'
import { decisionOf } from '../../run/decisions.ts'
import { drainJob } from '../../node/drain.ts'
import { localMember } from '../../member/member.ts'
import { awaitMember, expectMember } from '../../node/invitations.ts'
import { answerSegment } from '../../run/encapsulation.ts'
import { ownNetworks } from '../../run/own-networks.ts'
import { memberEnded } from '../../run/member-step.ts'
import { DrainedJob } from '../../core/drain.ts'
import { StintError } from '../../core/errors.ts'
import { DecisionAnswer, DumpOrder, DumpReport, MemberPlan, NodeNetworks, RelayedLetter, RelayedReply, RunCut, SealReport, SegmentAnswer, SegmentQuestion, type MemberObservation, type MemberPort } from '../../core/member.ts'
import { RehearsalReport } from '../../core/rehearsal.ts'
import { CheckView, JobParams, errorResponses } from '../schemas.ts'
import type { Api } from '../api.ts'

/** What coordinator and members of a run ask of each other (core/member.ts), over the wire of cluster/. */

const Nothing = Type.Object({}, { additionalProperties: false })
const Observation = Type.Unsafe<MemberObservation>(Type.Pick(CheckView, ['obstacles', 'carried', 'processes', 'bytes', 'predictedSeconds']))

/** The sandbox of a job here. @throws StintError E_NOT_RUNNING */
function requireSandbox(context: Context, job: number): Sandbox {
  const sandbox = context.sandboxes.get(job)
  if (sandbox === undefined) throw new StintError('E_NOT_RUNNING', `job ${job} has no sandbox on ${context.node}`)
  return sandbox
}

/** A launch carries a whole environment; an order or report is short. */
const bodyLimit = 2 * 2 ** 20

/** Every call to a member or its coordinator: the last part of its path, what it takes and answers. */
export function addMemberRoutes(api: Api, context: Context): void {
  /** A call with an answer. */
  function asks<B extends TSchema, A extends TSchema>(verb: string, summary: string, body: B, answer: A, act: (job: number, body: Static<B>) => Promise<Static<A>>): void {
    api.post(`/v1/peer/runs/:job/${verb}`, {
      bodyLimit,
      schema: { operationId: `member_${verb}`, summary, 'x-permission': 'peer', params: JobParams, body, response: { 200: answer, ...errorResponses } },
      // The types of a route cannot be told through a type parameter; the schemas above hold all the same.
    }, (async (request: { params: unknown; body: unknown }) => act((request.params as Static<typeof JobParams>).job, request.body as Static<B>)) as never)
  }
  /** A call that is answered once it is done. */
  function tells<B extends TSchema>(verb: string, summary: string, body: B, act: (job: number, body: Static<B>) => Promise<void> | void): void {
    asks(verb, summary, body, Nothing, async (job, given) => {
      await act(job, given)
      return {}
    })
  }
  const member = (job: number): MemberPort => localMember(context, requireSandbox(context, job))
  tells('expect', 'A step of this job is about to open a member here', MemberPlan, (_job, plan) => { expectMember(context, plan) })
  tells('opened', 'Answers once the expected member stands', Type.Object({ seconds: Type.Number({ minimum: 0, maximum: 600 }) }), (job, { seconds }) => awaitMember(context, job, seconds))
  asks('observe', 'The preflight of the member here', Nothing, Observation, (job) => member(job).observe())
  tells('quiesce', 'Shut its gate and its post office', DumpOrder, (job, order) => member(job).quiesce(order))
  asks('dump', 'Answers when its dump stands at the barrier', DumpOrder, DumpReport, (job, order) => member(job).dump(order))
  tells('record', 'Record what it has open for writing; all members are frozen', DumpOrder, (job, order) => member(job).record(order))
  asks('rehearse', 'Restore its part beside the frozen payload, and throw that away', Type.Object({ order: DumpOrder, seconds: Type.Number({ minimum: 1 }) }), RehearsalReport, (job, { order, seconds }) => member(job).rehearse(order, seconds))
  asks('seal', 'Make its image durable', Type.Object({ order: DumpOrder, cut: RunCut }), SealReport, (job, { order, cut }) => member(job).seal(order, cut))
  tells('publish', 'The checkpoint has its final name', DumpOrder, (job, order) => member(job).publish(order))
  tells('commit', 'What was decided: its payload ends, or runs on', DumpOrder, (job, order) => member(job).commit(order))
  tells('abort', 'Its payload runs on, the image is dropped', Type.Object({ order: DumpOrder, reason: Type.Object({ code: Type.String(), message: Type.String() }) }), (job, { order, reason }) => member(job).abort(order, reason))
  tells('restore', 'Answers when its restore stands at the barrier', Type.Object({ checkpoint: Type.Integer() }), (job, { checkpoint }) => member(job).restore(checkpoint))
  tells('resume', 'Its restored payload runs', Nothing, (job) => member(job).resume())
  tells('clear', 'Ends what is there of a payload', Nothing, (job) => member(job).clear())
  tells('wake', 'A process of ours shall look at its post', Type.Object({ pid: Type.Integer({ minimum: 2 }) }), (job, { pid }) => member(job).wake(pid))
  tells('close', 'Its sandbox ends', Nothing, (job) => member(job).close())
  asks('letter', 'To the coordinator: a letter of an agent or launcher', RelayedLetter, Type.Object({ reply: RelayedReply }), async (job, letter) => ({ reply: await answerRelayed(context, requireSandbox(context, job), letter) }))
  asks('signal', 'To the coordinator: Slurm has signalled the step; is it for the payload?', Type.Object({ member: Type.Integer(), number: Type.Integer() }), Type.Object({ pass: Type.Boolean() }), async (job, { number }) => ({ pass: await answerSignalOf(context, requireSandbox(context, job), number) }))
  tells('ended', 'To the coordinator: the member has ended', Type.Object({ member: Type.Integer() }), (job, { member: ended }) => { memberEnded(context, requireSandbox(context, job), ended) })
  asks('drain', 'To the coordinator: the node of a member is being drained', Nothing, DrainedJob, async (job) => drainJob(context, requireSandbox(context, job)))
  asks('decision', 'To the coordinator: what became of a checkpoint', Type.Object({ checkpoint: Type.Integer() }), DecisionAnswer, async (job, { checkpoint }) => ({ decision: decisionOf(context, job, checkpoint) }))
  api.post('/v1/peer/segment', {
    schema: { operationId: 'probeSegment', summary: 'Whether packets with addresses of jobs pass between a coordinator\'s node and this one', 'x-permission': 'peer', body: SegmentQuestion, response: { 200: SegmentAnswer, ...errorResponses } },
  }, (request) => answerSegment(context, request.body))
  api.get('/v1/peer/networks', {
    schema: { operationId: 'listNetworks', summary: 'What the sandboxes here have', 'x-permission': 'peer', response: { 200: NodeNetworks, ...errorResponses } },
  }, () => ownNetworks(context))
}
