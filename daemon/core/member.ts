import { Type, type Static } from 'typebox'
import { RunNetwork } from './addresses.ts'
import type { DrainedJob } from './drain.ts'
import { LaunchBook } from './launch-book.ts'
import type { Obstacle } from './obstacles.ts'
import type { RehearsalReport } from './rehearsal.ts'
import { triggers, type Trigger } from './states.ts'

/**
 * What the coordinator of a run and its members say to each other, whether the member is on this node or on another: the
 * shapes that travel, and the interface both sides are seen through. Times are milliseconds since 1970, sizes bytes.
 */

/** One checkpoint, as every member hears of it. */
export const DumpOrder = Type.Object({
  checkpoint: Type.Integer(),
  trigger: Type.Unsafe<Trigger>(Type.Enum([...triggers])),
  keepRunning: Type.Boolean(),
  /** Node of the coordinator: all members write below one unfinished directory, which is the coordinator's. */
  coordinator: Type.String(),
  /** Members with a part in it. */
  members: Type.Array(Type.Integer()),
  /** Bytes that each of them may write, in the same order: what quotas and free space allow beyond what was foreseen is shared. */
  room: Type.Optional(Type.Array(Type.Integer())),
})
export type DumpOrder = Static<typeof DumpOrder>

/** What one member found before anything was frozen. */
export interface MemberObservation {
  readonly obstacles: readonly Obstacle[]
  /** Node-local files of the user that travel with the image. */
  readonly carried: readonly string[]
  readonly processes: number
  readonly bytes: number
  readonly predictedSeconds: number
}

/** `dumpMs`: from the engine's start to its barrier. */
export const DumpReport = Type.Object({ dumpMs: Type.Number(), bytes: Type.Number() })
export type DumpReport = Static<typeof DumpReport>

export const SealReport = Type.Object({ bytes: Type.Number(), seconds: Type.Number(), path: Type.String() })
export type SealReport = Static<typeof SealReport>

/** What a member's manifest has of the whole run besides its own part. Taken while every post office is shut. */
export const RunCut = Type.Object({ launches: LaunchBook, startedAt: Type.Number(), /** Of all members. */ bytes: Type.Number() })
export type RunCut = Static<typeof RunCut>

/** Everything a node needs to open a member's sandbox for a step that the coordinator starts there. */
export const MemberPlan = Type.Object({
  run: Type.String(),
  job: Type.Integer(),
  uid: Type.Integer(),
  gid: Type.Integer(),
  user: Type.String(),
  options: Type.String(),
  member: Type.Integer(),
  /** Host names for life, by member. */
  hosts: Type.Array(Type.String()),
  /** Nodes of this stint, by member. */
  nodes: Type.Array(Type.String()),
  network: RunNetwork,
  createdAt: Type.Number(),
  restarts: Type.Integer(),
  restoring: Type.Boolean(),
  coordinator: Type.String(),
  /** When the allocation ends. */
  endTime: Type.Union([Type.Number(), Type.Null()]),
})
export type MemberPlan = Static<typeof MemberPlan>

/** What sandboxes on a node have: VNIs of private networks, addresses of members. */
export const NodeNetworks = Type.Object({ vnis: Type.Array(Type.Integer()), addresses: Type.Array(Type.String()) })
export type NodeNetworks = Static<typeof NodeNetworks>

/** A coordinator's question before a run has its network: do packets with members' addresses pass between the coordinator's node and this one? */
export const SegmentQuestion = Type.Object({
  /** Of the run's nodes, by member; the coordinator's is the first. */
  addresses: Type.Array(Type.String()),
  /** The one that is asked. */
  member: Type.Integer({ minimum: 1 }),
  /** Of the test packets that the coordinator has sent; those to the coordinator have it plus `member`. */
  port: Type.Integer({ minimum: 1, maximum: 65_000 }),
})
export type SegmentQuestion = Static<typeof SegmentQuestion>
/** `isOneSegment`: all other nodes are neighbours on one device of this one. */
export const SegmentAnswer = Type.Object({ isOneSegment: Type.Boolean(), isHeard: Type.Boolean() })
export type SegmentAnswer = Static<typeof SegmentAnswer>

/**
 * A member as the coordinator sees it. Each call may throw a StintError; calls about a checkpoint come in the order below,
 * `abort` after any of them but `commit`.
 */
export interface MemberPort {
  readonly member: number
  readonly node: string
  /** The preflight: nothing is changed. */
  observe(): Promise<MemberObservation>
  /** Post office closed, gate shut, guard told: nothing passes between members any more, the payload still runs. */
  quiesce(order: DumpOrder): Promise<void>
  /** Until the engine stands at its barrier, all is written and the payload frozen. */
  dump(order: DumpOrder): Promise<DumpReport>
  /** What is open for writing goes on record. All members are frozen by then: files may be common to them. */
  record(order: DumpOrder): Promise<void>
  /**
   * Restores its part into a sandbox that is thrown away, up to the engine's barrier; the payload stays frozen.
   * @throws StintError E_REHEARSAL_FAILED
   */
  rehearse(order: DumpOrder, seconds: number): Promise<RehearsalReport>
  /** Hashes, flushes and writes the manifest. */
  seal(order: DumpOrder, cut: RunCut): Promise<SealReport>
  /** The checkpoint gets its final name, where the coordinator's rename does not show already. */
  publish(order: DumpOrder): Promise<void>
  /** The payload ends, or runs on with keepRunning. */
  commit(order: DumpOrder): Promise<void>
  /** The payload runs on, what was written is dropped. Also where this member heard nothing of the checkpoint. */
  abort(order: DumpOrder, reason: { readonly code: string; readonly message: string }): Promise<void>
  /** Restores its part up to the barrier: all is there, nothing runs. */
  restore(checkpoint: number): Promise<void>
  /** Lets the restored payload run and opens the gate. */
  resume(): Promise<void>
  /** Ends whatever of a payload is there; the sandbox is empty again. */
  clear(): Promise<void>
  /** Tells a process of ours in the sandbox to look at its post. @param pid as the sandbox counts */
  wake(pid: number): Promise<void>
  /** The run has ended or goes elsewhere: the sandbox ends. */
  close(): Promise<void>
}

/** A letter of an agent or launcher in another member's sandbox (docs/reference/sandbox-protocol.md, "Post office"). */
export const RelayedLetter = Type.Object({ member: Type.Integer(), pid: Type.Integer(), line: Type.String(), body: Type.String({ description: 'base64' }) })
export type RelayedLetter = Static<typeof RelayedLetter>

/** The answer to one; null: none, the caller asks again. */
export const RelayedReply = Type.Union([Type.Null(), Type.Object({ verb: Type.String(), words: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()])), body: Type.Union([Type.String(), Type.Null()]) })])
export type RelayedReply = Static<typeof RelayedReply>

/** What became of a checkpoint: `pending` while the coordinator has not decided. */
export const DecisionAnswer = Type.Object({ decision: Type.Union([Type.Literal('commit'), Type.Literal('abort'), Type.Literal('pending')]) })
export type Decision = Static<typeof DecisionAnswer>['decision']

/** The coordinator of a run as a member's daemon sees it. */
export interface CoordinatorPort {
  deliver(letter: RelayedLetter): Promise<RelayedReply>
  /** A signal that Slurm has sent to the member's step. @returns whether it is for the payload */
  signal(member: number, number: number): Promise<boolean>
  memberEnded(member: number): Promise<void>
  decision(checkpoint: number): Promise<Decision>
  /** The member's node is being drained: saves and requeues the run. */
  drain(): Promise<DrainedJob>
}
