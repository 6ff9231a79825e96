/**
 * The one catalogue of coded errors. The API, the command line and the reference page read this table;
 * nothing else in the project makes up a code.
 */

export interface ErrorKind {
  /** HTTP status of the REST API. */
  readonly http: number
  /** Exit code of the command line. */
  readonly exit: number
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean
  /** The next step for the person who reads it. */
  readonly hint: string
}

export const errorKinds = {
  E_BAD_REQUEST: { http: 400, exit: 2, retryable: false, hint: 'See `stint --help` or /v1/openapi.json for what is accepted.' },
  E_NO_SUCH_ROUTE: { http: 404, exit: 2, retryable: false, hint: '/v1/openapi.json lists what can be asked for; stint and stintd should be of one version.' },
  E_BAD_OPTION: { http: 400, exit: 2, retryable: false, hint: 'Known keys: net=private|host, signal=doorbell|pass, norollback=PATTERN[:PATTERN...], fallback=hold|start, continue=requeue|submit, every=never|auto|NUMBER[smhd], cron=MINUTE_HOUR_DAY_MONTH_WEEKDAY (+ for commas).' },
  E_BAD_CONFIG: { http: 500, exit: 78, retryable: false, hint: 'Correct /etc/stint/stint.toml; `stint config show` lists every key.' },
  E_FORBIDDEN: { http: 403, exit: 77, retryable: false, hint: 'You can see and act on your own jobs only; root may act on all.' },
  E_NO_SUCH_JOB: { http: 404, exit: 3, retryable: false, hint: 'Check the job id with squeue; the job must have been submitted with --stint.' },
  E_SUSPENDED: { http: 409, exit: 4, retryable: true, hint: 'Resume the job first (scontrol resume JOB): its processes are stopped, and so is what would save them.' },
  E_NOT_RUNNING: { http: 409, exit: 4, retryable: true, hint: 'The job must be running; see `stint status JOB`.' },
  E_BUSY: { http: 409, exit: 4, retryable: true, hint: 'Another checkpoint or restore of this job is under way; try again when it is done.' },
  E_OVER_BUDGET: { http: 429, exit: 75, retryable: true, hint: 'Wait a moment, then ask again and less often. The limits are for each user on each node; your admin sets them ([limits] of /etc/stint/stint.toml).' },
  E_DAEMON_ABSENT: { http: 503, exit: 69, retryable: true, hint: 'stintd does not answer on this node; ask your admin to look at `systemctl status stintd`.' },
  E_STOPPING: { http: 503, exit: 69, retryable: true, hint: 'The job is left as it stands, and the next stintd goes on with it; ask again when it runs.' },
  E_NOT_VERIFIED: { http: 403, exit: 77, retryable: false, hint: "What was claimed does not agree with the kernel's view of the process; see stintd's log." },
  E_PREFLIGHT: { http: 409, exit: 5, retryable: false, hint: '`stint check JOB` lists every obstacle with its remedy.' },
  E_NOT_REQUEUABLE: { http: 409, exit: 5, retryable: false, hint: 'Submit without --no-requeue (site: JobRequeue=1), or use `stint checkpoint --keep-running`.' },
  E_TOO_FEW_NODES: { http: 409, exit: 5, retryable: false, hint: 'Ask for as many nodes as the run had at its first start (scontrol update JobId=JOB NumNodes=N), then scontrol release.' },
  E_CRIU_DUMP_FAILED: { http: 500, exit: 6, retryable: false, hint: 'The remedy stands beside the first error; dump.log has the rest.' },
  E_CRIU_RESTORE_FAILED: { http: 500, exit: 6, retryable: false, hint: 'restore.log has the rest; an older checkpoint is tried where there is one.' },
  E_REHEARSAL_FAILED: { http: 500, exit: 6, retryable: false, hint: 'This checkpoint was dropped, as it could not have been restored. rehearsal/restore.log beside dump.log has the rest.' },
  E_ROLLBACK: { http: 500, exit: 6, retryable: false, hint: 'An older checkpoint is tried where there is one. If the job is held: put the file back by hand as the message says, then `scontrol release JOB`.' },
  E_STORE_UNUSABLE: { http: 507, exit: 7, retryable: true, hint: 'The image store must be a directory of root, mode 0700, writable and mounted; see `stint doctor`.' },
  E_STORE_FULL: { http: 507, exit: 7, retryable: true, hint: 'Free space in the image store (`stint images` shows who uses it) or enlarge it.' },
  E_STORE_LOCAL: { http: 507, exit: 7, retryable: false, hint: 'Ask your admin for an image store that all nodes share (store.path; files.shared_paths when its file system does not tell), or run the job on one node.' },
  E_STORE_QUOTA: { http: 507, exit: 7, retryable: true, hint: 'Remove images of jobs that are over (`stint reclaim`), or ask your admin for a larger store.quota_gb or store.user_quota_gb.' },
  E_CPU_UNFIT: { http: 500, exit: 6, retryable: false, hint: 'The program may use instructions that this node has not got. Ask for nodes like the first one (--constraint, --partition), then `scontrol release JOB`.' },
  E_TOO_LITTLE_MEMORY: { http: 409, exit: 6, retryable: false, hint: 'Give the job its memory back (scontrol update JobId=JOB MinMemoryNode=MEGABYTES, or MinMemoryCPU as it was submitted), then `scontrol release JOB`.' },
  E_CRASHED: { http: 500, exit: 6, retryable: false, hint: 'The program crashed right after it was restored. `stint status JOB` on its last node lists every try; `scontrol release JOB` tries them all again.' },
  E_IMAGE_DAMAGED: { http: 500, exit: 8, retryable: false, hint: 'A file of the image is missing or its checksum differs; an older checkpoint is tried where there is one.' },
  E_IDENTITY_CHANGED: { http: 409, exit: 8, retryable: false, hint: 'Nothing of the job ran. Tell your admin: somebody may have changed the checkpoint while it was made, or files that the job has open. Once that is settled: `scontrol release JOB`.' },
  E_IMAGE_FORGED: { http: 500, exit: 8, retryable: false, hint: 'The job is held, since somebody other than Stint may write to the image store. As root: `stint images` names the checkpoint\'s directory; `stint key adopt JOB` has the site\'s key vouch for it if you trust it (it was made before there was a key), or remove that directory. Then `scontrol release JOB`.' },
  E_NO_CHECKPOINT: { http: 404, exit: 8, retryable: false, hint: 'No sealed checkpoint of this job can be restored; `stint images JOB` lists what is there.' },
  E_NETWORK: { http: 500, exit: 70, retryable: false, hint: 'The nodes of this job cannot be joined in a private network; see "The network of jobs over several nodes" in docs/operations.md.' },
  E_NOT_ALL_SAVED: { http: 409, exit: 10, retryable: true, hint: 'Each job that was not saved is listed with its reason; the node stays drained in Slurm.' },
  E_SLURM: { http: 502, exit: 9, retryable: true, hint: 'slurmctld did not do what was asked; it is tried again where that is safe.' },
  E_PEER: { http: 502, exit: 9, retryable: true, hint: "stintd of this node reaches the others as root over SSH. Check root's key, known_hosts, the other node's sshd (AllowStreamLocalForwarding) and stintd; `stint doctor`, as root, tries them all." },
  E_CATALOGUE: { http: 500, exit: 70, retryable: false, hint: "Move the catalogue in paths.state_dir aside and start stintd again: images are found by their manifests. Jobs that run now lose Stint." },
  E_COMMAND_FAILED: { http: 500, exit: 70, retryable: false, hint: "A program the daemon needs failed; stintd's log has its output, `stint doctor` checks them all." },
  E_INTERNAL: { http: 500, exit: 70, retryable: false, hint: "This is a fault of Stint; please report it with stintd's log." },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof errorKinds

/** An error of the catalogue. Classify by `code`, never by `instanceof`. */
export class StintError extends Error {
  override readonly name = 'StintError'
  readonly code: ErrorCode
  /** The hint of this very case, or else the catalogue's. */
  readonly hint: string
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; hint?: string | undefined; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint ?? errorKinds[code].hint
    this.details = options.details ?? {}
  }
}

/** Own keys only: `toString` is no code. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorKinds, code)
}

export function isStintError(error: unknown): error is StintError {
  return typeof error === 'object' && error !== null && 'code' in error && isErrorCode(error.code)
}

/** What a thrown value says. By its message, not by its class: native modules and other realms have classes of their own. */
function messageOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string' ? error.message : String(error)
}

/** Any thrown value as a coded error: ours as it is, everything else as E_INTERNAL with its cause. */
export function asStintError(error: unknown): StintError {
  if (isStintError(error)) return error
  return new StintError('E_INTERNAL', messageOf(error), { cause: error })
}

/** The `code` of a Node.js system error such as ENOENT, or undefined. */
export function systemCode(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
