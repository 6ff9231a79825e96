import { StintError } from '../core/errors.ts'

/** What the daemon wants to know of a job; times in seconds since 1970. */
export interface SlurmJob {
  readonly jobId: number
  /** What scontrol and scancel call this job alone: an array's last task has the array's own id. */
  readonly name: string
  readonly state: string
  /** Of its state: `TimeLimit`, `None`. */
  readonly reason: string
  readonly uid: number
  readonly requeue: boolean
  readonly restarts: number
  readonly endTime: number | undefined
  readonly preemptTime: number | undefined
  readonly nodes: string
  readonly batchHost: string | undefined
  readonly partition: string
  /** Nodes the user asked for and asked not to have, as host lists; empty when none. */
  readonly requiredNodes: string
  readonly excludedNodes: string
  /** What root has noted on the job (AdminComment); empty when nothing. */
  readonly adminComment: string
}

/** Slurm's and the kernel's numbers of jobs and users have 32 bits. */
export function isNumber32(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value < 2 ** 32
}

/** What is no number of a user or of restarts is refused, not guessed. @throws StintError E_SLURM */
export function requireNumbers(job: SlurmJob): SlurmJob {
  if (isNumber32(job.uid) && isNumber32(job.restarts)) return job
  throw new StintError('E_SLURM', `scontrol tells user or restarts of job ${job.jobId} in a form that is not known`)
}
