import type { Logger } from 'pino'
import type { Engine } from '../../plugins/engines/engine.ts'
import type { ImageStore } from '../../plugins/stores/store.ts'
import type { Catalogue } from '../catalogue/catalogue.ts'
import type { Run } from '../catalogue/runs.ts'
import type { Peers } from '../cluster/peers.ts'
import type { Config } from '../core/config.ts'
import type { FaultHook } from '../core/fault-points.ts'
import type { RunOptions } from '../core/options.ts'
import type { CommandRunner } from '../linux/command.ts'
import type { SandboxNetwork } from '../linux/network.ts'
import type { GuardLink } from '../sandbox/link.ts'
import type { Scontrol } from '../slurm/scontrol.ts'

/** PID of the payload's root inside every sandbox (docs/reference/sandbox-protocol.md). */
export const rootPid = 1000

/** A sandbox on this node while it lives. The catalogue has what must outlive the daemon; here is the rest. */
export interface Sandbox {
  readonly memberId: number
  readonly run: Run
  readonly options: RunOptions
  readonly restarts: number
  /** As the node sees it. */
  readonly pid1: number
  /** Missing while the guard reconnects after a restart of the daemon. */
  link: GuardLink | undefined
  /** One checkpoint, restore or recovery at a time: set by `exclusively` alone. */
  busy: boolean
  /** The pending look at the deadline; only actions/deadline.ts sets it. */
  deadline: NodeJS.Timeout | undefined
  /** No automatic checkpoint before this instant, milliseconds since 1970. */
  notBefore: number
  /** When the run will be saved and why, for `stint status`. */
  plannedAt: number | undefined
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
  readonly scontrol: Scontrol
  readonly engine: Engine
  readonly criuVersion: string
  readonly store: ImageStore
  readonly network: SandboxNetwork
  /** The daemons of other nodes. */
  readonly peers: Peers
  readonly fault: FaultHook
  /** By job id. */
  readonly sandboxes: Map<number, Sandbox>
  /** Ends with the daemon. */
  readonly stopping: AbortSignal
}

/** Where an engine works for a job on this node: logs outlive the sandbox, for whoever asks why. */
export function engineDirectory(context: Context, jobId: number): string {
  return `${context.config.paths.state_dir}/engine/${jobId}`
}

/** Private directory of a job's sandbox on this node. */
export function sandboxDirectory(context: Context, jobId: number): string {
  return `${context.config.paths.run_dir}/sandboxes/${jobId}`
}
