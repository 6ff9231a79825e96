import type { Logger } from 'pino'
import type { Engine, PreparedDump, PreparedRestore } from '../plugins/engines/engine.ts'
import type { ImageDraft, ImageStore, StoredImage } from '../plugins/stores/store.ts'
import type { Catalogue } from './catalogue/catalogue.ts'
import type { Checkpoint } from './catalogue/checkpoints.ts'
import type { Run } from './catalogue/runs.ts'
import type { PeerDaemons } from './cluster/peer-daemons.ts'
import type { Peers } from './cluster/peers.ts'
import type { RunNetwork } from './core/addresses.ts'
import type { Budgets } from './core/budgets.ts'
import { enginePath, type Config } from './core/config.ts'
import type { Objects, Prediction } from './core/deadline.ts'
import type { DrainReport } from './core/drain.ts'
import type { FaultHook } from './core/fault-points.ts'
import type { Manifest } from './core/manifest.ts'
import type { LaunchBook } from './core/launch-book.ts'
import type { LookAnswers, LookFacts, LookKind } from './core/looks.ts'
import type { MemberPlan, MemberPort } from './core/member.ts'
import type { Obstacle } from './core/obstacles.ts'
import type { RunOptions } from './core/options.ts'
import type { StintError } from './core/errors.ts'
import type { StoreKeys } from './core/store-keys.ts'
import type { SaveStep } from './core/rollback.ts'
import type { FailedSaves } from './core/save-failure.ts'
import type { Clock } from './linux/clock.ts'
import type { CommandRunner } from './linux/command.ts'
import type { HeldProcess } from './linux/held-process.ts'
import type { LoopDelay } from './linux/event-loop.ts'
import type { Kernel } from './linux/kernel.ts'
import type { SandboxNetwork } from './linux/network.ts'
import type { Segment } from './linux/segment.ts'
import type { Users } from './linux/users.ts'
import type { GuardLink } from './member/monitor-connection.ts'
import type { PostOffice } from './member/relay.ts'
import type { Sbatch } from './slurm/sbatch.ts'
import type { SlurmJob } from './slurm/job.ts'
import type { Scontrol } from './slurm/scontrol.ts'
import type { Squeue } from './slurm/squeue.ts'

/** PID of the payload's root inside every sandbox (docs/reference/sandbox-protocol.md). */
export const rootPid = 1000
/** Its child: the job script in member 0, the launcher elsewhere. */
export const scriptPid = 1001

/** A member's half of a checkpoint in the making. */
export interface MemberDump {
  readonly row: Checkpoint
  readonly draft: ImageDraft
  readonly startedAt: number
  /** Its checkpoint is being given up: what is under way ends at its next wait. */
  readonly ending: AbortController
  /** The step under way. */
  step: Promise<unknown>
  /** The dump was asked for: a request that comes twice is refused. */
  isBegun: boolean
  /** The engine is under way; settles at its barrier or its end. */
  reached: Promise<unknown> | undefined
  /** Set when the engine stands at its barrier. */
  prepared: PreparedDump | undefined
  /** Files that travel with the image, and those that go on record, as the payload stands frozen. */
  carried: readonly string[]
  files: FilesOnRecord | undefined
  /** Bytes of memory that the payload holds, frozen. */
  memory: number | undefined
  /** Counted when the open files were put on record. */
  objects: Objects | undefined
}

/** What is written down of files that are open for writing. */
export interface FilesOnRecord {
  readonly plan: readonly SaveStep[]
}

/** A sandbox on this node while it lives. The catalogue has what must outlive the daemon; here is the rest. */
export interface Sandbox {
  readonly memberId: number
  readonly run: Run
  readonly options: RunOptions
  readonly restarts: number
  /** This node's place in the run; 0 is the batch task's, and its daemon coordinates. */
  readonly member: number
  /** Host names for life, by member. */
  readonly hosts: readonly string[]
  /** Nodes of this stint, by member. */
  readonly nodes: readonly string[]
  /** Of a run over several nodes. */
  readonly network: RunNetwork | undefined
  /** The node whose daemon decides; undefined where this one does. */
  readonly coordinator: string | undefined
  readonly pid1: HeldProcess
  /** The process that slurmstepd started, which stays outside; its cgroups, CPUs and standard streams are the step's. */
  readonly guard: HeldProcess
  /** Missing while the guard reconnects after a restart of the daemon. */
  link: GuardLink | undefined
  /** Whether Slurm may requeue the job, as far as it was asked; for when it does not answer. */
  requeue: boolean | undefined
  /** One checkpoint, restore or recovery at a time: set by `exclusively` alone. */
  busy: boolean
  /** The pending look at the deadline; only run/walltime-watch.ts sets it. */
  deadline: Disposable | undefined
  /** Until the last restore counts as one that came through; only run/probation.ts sets it. */
  settling: Disposable | undefined
  /** No automatic checkpoint before this instant, milliseconds since 1970. */
  notBefore: number
  /** When the run will be saved, milliseconds since 1970; undefined without a limit. Only run/walltime-watch.ts sets it. */
  plannedAt: number | undefined
  /** Where agents and launchers of a run over several nodes ask; none on one node. */
  post: PostOffice | undefined
  /** This member's half of the checkpoint that is being made; only member/dump.ts sets it. */
  dump: MemberDump | undefined
  /** This member's half of the restore that stands at its barrier; only member/restore.ts sets it. */
  restoring: PreparedRestore | undefined
  /** The restore that is under way, until it stands at its barrier or has failed; only member/restore.ts sets it. */
  restoreStep?: { readonly ending: AbortController; readonly done: Promise<unknown> }
  /** What is being cleared: a restore waits for it; only member/restore.ts sets it. */
  clearing?: Promise<void>
  /** A node of it has died: it goes back to its last checkpoint. Only run/lost-member.ts sets it. */
  lost: boolean
  /** The coordinator's: other members by number, being opened or open; only run/member-step.ts sets it. */
  readonly others: Map<number, Promise<MemberPort>>
  /** The coordinator's: what is on record, once it was read. Only run/launches.ts sets it. */
  launches?: LaunchBook
  /** Its length as it was last written, and since when it has been full, milliseconds since 1970. Only run/launches.ts sets them. */
  launchBytes?: number
  launchesFullSince?: number
  /** The doorbell is being answered. Only run/monitor-messages.ts sets it. */
  ringing?: boolean
  /** slurmctld is being asked why a SIGTERM came. Only run/monitor-messages.ts sets it. */
  termLook?: Promise<'preemption' | 'walltime' | undefined>
  /** Why then: what it rests on. Missing before the first look. */
  plan?: { readonly prediction: Prediction; readonly besideSeconds: number }
  /** Kinds of obstacles: of the last look, and those the job's owner was told of; only member/preflight.ts sets it. */
  obstacles?: { readonly seen: ReadonlySet<Obstacle['kind']>; readonly told: ReadonlySet<Obstacle['kind']> }
  /** Saves that failed since the last one that did not: of those before the job's end how many and when, and the reasons its owner was told. Only run/failed-save.ts sets it. */
  failed?: FailedSaves & { readonly told: ReadonlyMap<string, string> }
  /** The payload would notice that files are opened: it holds leases, or watches. Of the last preflight; only member/preflight.ts sets it. */
  noticing?: boolean
  /** When Slurm was last asked about the job's end, milliseconds since 1970. */
  askedAt?: number
  /** The next periodic checkpoint, milliseconds since 1970, and whether one is being made. Only run/periodic-watch.ts sets it. */
  periodic?: { due: number | undefined; saving: boolean }
}

/** What is the same at the beginning of every sandbox's life. */
export const freshSandbox = (): Pick<Sandbox, 'requeue' | 'settling' | 'busy' | 'deadline' | 'notBefore' | 'plannedAt' | 'post' | 'dump' | 'restoring' | 'lost' | 'others'> => ({
  requeue: undefined, settling: undefined, busy: false, deadline: undefined, notBefore: 0, plannedAt: undefined, post: undefined, dump: undefined, restoring: undefined, lost: false, others: new Map(),
})

/** What a look needs of a sandbox: plain data, for it is sent to a helper process. */
export type Looked = Pick<Sandbox, 'pid1' | 'run' | 'options' | 'hosts' | 'network'>

/** What a look has around it: a helper process has neither the catalogue nor any connection. */
export type LookContext = Pick<Context, 'config' | 'node' | 'log' | 'commands'>

/** Looks at a payload beside the event loop. @throws StintError E_PREFLIGHT when there is too much to look at */
export type Look = <K extends LookKind>(kind: K, sandbox: Looked, facts: LookFacts[K]) => Promise<LookAnswers[K]>

/** What of an image is not the engine's (member/image-contents.ts). */
export interface ImageContents {
  /** The payload stands frozen: who its processes are, what the kernel knows of them, what travels with the image. @param signal ends it */
  recordFrozen(context: Context, sandbox: Sandbox, directory: string, found: LookAnswers['frozen'], signal: AbortSignal): Promise<void>
  /** All members are frozen: what they have open for writing. @returns how many files are on record */
  recordFiles(context: Context, sandbox: Sandbox, directory: string, files: FilesOnRecord): Promise<number>
  bytesBelow(directory: string): Promise<number>
  /** @throws StintError E_STORE_QUOTA */
  assertWithinRoom(directory: string, room: number): Promise<void>
  /** @throws StintError E_IDENTITY_CHANGED */
  assertNotForged(context: Context, directory: string, manifest: Pick<Manifest, 'uid' | 'gid' | 'rootPid' | 'files'>): Promise<void>
  /** Before the engine restores. @param cgroups of the payload @throws StintError */
  putIn(context: Context, sandbox: Sandbox, image: StoredImage, cgroups: readonly string[]): Promise<void>
  /** Everything is restored and nothing runs. */
  putBackLedger(context: Context, sandbox: Sandbox, directory: string): Promise<void>
  /** Everything has its identity, and nothing has run yet. @throws StintError E_IDENTITY_CHANGED */
  assertSame(context: Context, sandbox: Sandbox, directory: string): Promise<void>
}

/** How quickly this daemon answers. */
export interface Health {
  readonly loopDelay: LoopDelay
  /** Looks at payloads under way, and waiting for a helper. */
  readonly looks: { readonly running: number; readonly waiting: number }
}

/** What boot.ts hands to every action. */
export interface Context {
  readonly config: Config
  readonly log: Logger
  readonly node: string
  /** Of Stint. */
  readonly version: string
  readonly catalogue: Catalogue
  readonly commands: CommandRunner
  readonly clock: Clock
  readonly kernel: Kernel
  readonly contents: ImageContents
  readonly users: Users
  readonly scontrol: Scontrol
  readonly sbatch: Sbatch
  readonly squeue: Squeue
  readonly engine: Engine
  readonly criuVersion: string
  readonly store: ImageStore
  /** The site's keys for its images, as they are now; `fault` where their file cannot be used. */
  readonly keyring: { readonly current: () => StoreKeys; readonly fault: StintError | undefined }
  readonly network: SandboxNetwork
  readonly segment: Segment
  readonly look: Look
  readonly health: () => Health
  /** The daemons of other nodes. */
  readonly peers: Peers
  readonly fault: FaultHook
  /** What each user may ask of this daemon. */
  readonly budgets: Budgets
  /** Of the drain under way, or the last one; only node/drain.ts sets it. */
  readonly drain: { report: DrainReport | undefined }
  /** By job id. */
  readonly sandboxes: Map<number, Sandbox>
  /** Rows of members whose sandbox has ended and is being cleared away; only member/close.ts adds to it. */
  readonly closing: Set<number>
  /** What slurmctld said of jobs that Prolog has told of, by job id; only slurm/job-records.ts sets it. */
  readonly announced: Map<number, { readonly at: number; readonly job: Promise<SlurmJob> }>
  /** Members of other nodes' runs that are about to be opened here, by job id. */
  readonly expected: Map<number, ExpectedMember>
  /** The members of runs on other nodes, and their coordinators. */
  readonly cluster: PeerDaemons
  /** Makes a post office; does not open it yet. */
  readonly postOffice: (...args: ConstructorParameters<typeof PostOffice>) => PostOffice
  /** Ends with the daemon. */
  readonly stopping: AbortSignal
}

/** What the coordinator has told of a member, until its step comes. */
export interface ExpectedMember {
  readonly plan: MemberPlan
  /** Settles when its sandbox stands, or cannot be made. */
  readonly opened: PromiseWithResolvers<undefined>
}

/** Where an engine works for a job on this node: logs outlive the sandbox, for whoever asks why. */
export function engineDirectory(context: Context, jobId: number): string {
  return `${enginePath(context.config)}/${jobId}`
}

/** Private directory of a job's sandbox on this node. */
export function sandboxDirectory(context: Context, jobId: number): string {
  return `${context.config.paths.run_dir}/sandboxes/${jobId}`
}

/** Where agents and launchers of a job ask. In the sandbox by the same path: its mounts are the node's. The same on every node, since the path goes by the job. */
export function relayPath(context: Context, jobId: number): string {
  return `${sandboxDirectory(context, jobId)}/post.sock`
}
