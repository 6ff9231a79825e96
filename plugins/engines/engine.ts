import type { ImageIdentity } from '../../daemon/core/identities.ts'
import type { HeldProcess } from '../../daemon/linux/held-process.ts'

/** A sandbox as an engine sees it. */
export interface EngineTarget {
  /** PID 1 of the sandbox. */
  readonly pid1: Pick<HeldProcess, 'enter' | 'proc'>
  readonly uid: number
  readonly gid: number
  /** Supplementary groups of the user. */
  readonly groups: readonly number[]
  /** Root of the payload, as the sandbox sees it. */
  readonly rootPid: number
}

export interface DumpRequest extends EngineTarget {
  /** Existing directory of root; the engine's files go into `criu/` below it. */
  readonly directory: string
  readonly keepRunning: boolean
  /** The payload holds leases on files, or watches some: no file is opened that need not be. */
  readonly unseen: boolean
  /** Seconds the payload may wait frozen for the decision. */
  readonly barrierSeconds: number
  /** No file of the image becomes larger: the dump fails then. */
  readonly limitBytes: number
  /** Private directory for the barrier's socket and the log: neither belongs to the image. */
  readonly runDirectory: string
}

/**
 * A dump that has reached its barrier: all is written, the payload frozen. Exactly one of `commit` and `abort` is
 * called; a daemon that dies instead has aborted.
 */
export interface PreparedDump {
  /** Lets the payload end (or run on, with keepRunning). @throws StintError E_CRIU_DUMP_FAILED when it runs on against the word */
  commit(): Promise<void>
  /** The payload resumes as if nothing had been. */
  abort(): Promise<void>
}

export interface RunningDump {
  readonly pid: number
  /** @throws StintError E_CRIU_DUMP_FAILED with the first real error and a remedy; the payload runs on */
  readonly prepared: Promise<PreparedDump>
  /** Ends a dump that has not reached its barrier, whether it works, waits or is stopped: `prepared` rejects, and the payload runs on. */
  stop(): void
}

export interface RestoreRequest extends EngineTarget {
  readonly directory: string
  /** Cgroups the restored processes belong to. */
  readonly cgroups: readonly string[]
  /** Existing directory for the log. */
  readonly workDirectory: string
  /** After this the restore is given up; some that cannot succeed hang. */
  readonly timeoutSeconds: number
  /** Other paths for some deleted names, by their id: latin1, as in DeletedName. */
  readonly paths?: ReadonlyMap<number, string>
  /** The payload is there, too, and holds its file locks: they are left out. */
  readonly rehearsal?: boolean
  /**
   * Called when every task and descriptor is there, none runs, and none has its identity yet: what the engine does not restore can be put
   * back now. What it throws ends the restore. Missing in a rehearsal, which goes no further than this.
   */
  readonly restored?: () => Promise<void>
}

/**
 * A restore that has reached its barrier: every task is there with its identity and protections, and none has run an instruction of its
 * program. Exactly one of `commit` and `abort` is called; an engine that ends instead takes the tasks with it.
 */
export interface RunningRestore {
  readonly pid: number
  /** @throws StintError E_CRIU_RESTORE_FAILED; nothing of the payload is left running then */
  readonly prepared: Promise<PreparedRestore>
}

export interface PreparedRestore {
  /** Lets the payload run. @throws StintError E_CRIU_RESTORE_FAILED */
  commit(): Promise<void>
  /** CRIU ends what it restored. */
  abort(): Promise<void>
}

/** What a payload held without a name: the engine makes one for a moment when it restores. */
export interface DeletedName {
  /** In this image. */
  readonly id: number
  /** The last name as the payload saw it; its bytes as latin1, as names need not be text. */
  readonly path: string
  readonly kind: 'file' | 'directory' | 'socket'
  /** Of the file; undefined where nothing tells. */
  readonly uid: number | undefined
  readonly gid: number | undefined
}

/** What saves and restores a process tree. */
export interface Engine {
  readonly name: string
  version(): Promise<string>
  /** What of the engine's own faults is not mended here, in words for an admin; `loaded`: whether anything is. @throws StintError E_COMMAND_FAILED */
  unmended(): Promise<{ readonly loaded: boolean; readonly missing: readonly string[] }>
  startDump(request: DumpRequest): Promise<RunningDump>
  /**
   * Changes what a dump has written, while it stands at its barrier: these regular files may have another size and mode when they are
   * opened for the restore. @param paths as the payload sees them @throws Error with the image as it was
   */
  forgetSizes(directory: string, paths: readonly string[]): Promise<void>
  /** What an image holds without a name. @throws Error for what is no image of this engine */
  deletedNames(directory: string): Promise<DeletedName[]>
  /** Who an image makes each of its threads. @throws StintError E_IMAGE_DAMAGED */
  identities(directory: string): Promise<ImageIdentity[]>
  /** Whether this node's CPU can go on with an image. @throws StintError E_CPU_UNFIT */
  assertFits(directory: string): Promise<void>
  startRestore(request: RestoreRequest): Promise<RunningRestore>
  /** Gives it the word when it comes to its barrier. */
  answerOrphan(orphan: OrphanedEngine): Promise<void>
}

/** An engine that outlived the daemon that started it: it comes to its barrier, or comes to it again. */
export interface OrphanedEngine {
  /** As in the request it was started with. */
  readonly runDirectory: string
  readonly pid: number
  /** ProcessStat.startTime. */
  readonly startTime: number
  /** The job's user. */
  readonly uid: number
  /** PID 1 of its sandbox. */
  readonly pid1: EngineTarget['pid1']
  readonly operation: 'dump' | 'restore'
  /** It is woken where it is stopped, and after this ended. */
  readonly timeoutSeconds: number
  readonly word: 'commit' | 'abort'
  /** Settles when it has ended. */
  readonly ended: Promise<unknown>
}
