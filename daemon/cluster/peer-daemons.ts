import { lookup } from 'node:dns/promises'
import type { DrainReport, DrainedJob } from '../core/drain.ts'
import type { CoordinatorPort, Decision, DumpReport, MemberObservation, MemberPlan, MemberPort, NodeNetworks, RelayedReply, SealReport, SegmentAnswer, SegmentQuestion } from '../core/member.ts'
import type { RehearsalReport } from '../core/rehearsal.ts'
import type { Peers } from './peers.ts'

/** For what is done at once, seconds. */
const quick = 10
/** A drain takes as long as its jobs' images and their turns; a dead peer is found long before. */
const drainSeconds = 24 * 3600

/** What takes as long as writing an image does. */
export interface Patience {
  readonly checkpointSeconds: number
  readonly restoreSeconds: number
}

/** A member that may not be there yet. */
export interface OpeningPort extends MemberPort {
  /** Its step is about to come. */
  expect(plan: MemberPlan): Promise<void>
  /** Answers once the expected member stands. */
  opened(seconds: number, signal: AbortSignal): Promise<void>
}

/** Members of runs on other nodes, and their coordinators: core/member.ts over the wire. */
export class PeerDaemons {
  readonly #peers: Peers
  readonly #patience: Patience
  readonly #addressOf: (node: string) => Promise<string>

  constructor(peers: Peers, patience: Patience, addressOf: (node: string) => Promise<string>) {
    this.#peers = peers
    this.#patience = patience
    this.#addressOf = addressOf
  }

  #caller(job: number, node: string) {
    return async <T>(verb: string, body: unknown = {}, timeoutSeconds = quick, signal?: AbortSignal): Promise<T> =>
      this.#peers.request<T>(node, 'POST', `/v1/peer/runs/${job}/${verb}`, body, { timeoutSeconds, ...(signal === undefined ? {} : { signal }) })
  }

  member(job: number, member: number, node: string): OpeningPort {
    const call = this.#caller(job, node)
    const { checkpointSeconds, restoreSeconds } = this.#patience
    return {
      member, node,
      expect: (plan) => call('expect', plan),
      opened: (seconds, signal) => call('opened', { seconds }, seconds + quick, signal),
      observe: () => call<MemberObservation>('observe'),
      quiesce: (order) => call('quiesce', order, quick * 3),
      dump: (order) => call<DumpReport>('dump', order, checkpointSeconds),
      record: (order) => call('record', order, checkpointSeconds),
      rehearse: (order, seconds) => call<RehearsalReport>('rehearse', { order, seconds }, seconds + quick * 3),
      seal: (order, cut) => call<SealReport>('seal', { order, cut }, checkpointSeconds),
      publish: (order) => call('publish', order),
      commit: (order) => call('commit', order, quick * 3),
      abort: (order, reason) => call('abort', { order, reason }, quick * 3),
      restore: (checkpoint) => call('restore', { checkpoint }, restoreSeconds),
      resume: () => call('resume', {}, quick * 3),
      clear: () => call('clear', {}, quick * 3),
      wake: (pid) => call('wake', { pid }),
      close: () => call('close'),
    }
  }

  coordinator(job: number, node: string): CoordinatorPort {
    const call = this.#caller(job, node)
    return {
      deliver: async (letter) => (await call<{ reply: RelayedReply }>('letter', letter, quick * 6)).reply,
      signal: async (member, number) => (await call<{ pass: boolean }>('signal', { member, number })).pass,
      memberEnded: (member) => call('ended', { member }),
      drain: () => call<DrainedJob>('drain', {}, drainSeconds),
      decision: async (checkpoint) => (await call<{ decision: Decision }>('decision', { checkpoint })).decision,
    }
  }

  networks(node: string, seconds: number): Promise<NodeNetworks> {
    return this.#peers.request<NodeNetworks>(node, 'GET', '/v1/peer/networks', undefined, { timeoutSeconds: seconds })
  }

  segment(node: string, question: SegmentQuestion, seconds: number): Promise<SegmentAnswer> {
    return this.#peers.request<SegmentAnswer>(node, 'POST', '/v1/peer/segment', question, { timeoutSeconds: seconds })
  }

  /** Drains another node. @throws StintError the peer's, or E_PEER; the drain may go on all the same */
  drain(node: string, reason: string): Promise<DrainReport> {
    return this.#peers.request<DrainReport>(node, 'POST', '/v1/peer/drain', { reason }, { timeoutSeconds: drainSeconds })
  }

  /** How far the drain of another node is. @throws StintError the peer's, or E_PEER */
  drainReport(node: string): Promise<DrainReport> {
    return this.#peers.request<DrainReport>(node, 'GET', '/v1/peer/drain', undefined, { timeoutSeconds: quick })
  }

  /**
   * A request of a user about a job that another node coordinates, made there in the user's name.
   * @param what the last part of the route's path
   * @throws StintError the peer's, or E_PEER
   */
  forUser<T>(node: string, job: number, what: 'check' | 'checkpoints', body: { readonly uid: number }): Promise<T> {
    return this.#peers.request<T>(node, 'POST', `/v1/peer/jobs/${job}/${what}`, body, { timeoutSeconds: this.#patience.checkpointSeconds })
  }

  /** IPv4: what the underlay of a private network is given. @throws system error when the name is not known */
  async addressOf(node: string): Promise<string> {
    return (await lookup(await this.#addressOf(node), { family: 4 })).address
  }
}
