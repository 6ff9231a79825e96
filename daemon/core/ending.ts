/** Why Slurm ends, or has ended, a job's stint: told by one `scontrol show job`. */
export type Ending =
  /** It runs, nobody has asked for its end. */
  | 'none'
  | 'suspended'
  /** Slurm wants its nodes for another job. Under PreemptMode=CANCEL it does not requeue it; Stint may. */
  | 'preempted'
  /** In the queue again: by preemption under PreemptMode=REQUEUE, by an admin, by a node that failed. */
  | 'requeued'
  /** The time limit is over. */
  | 'timeout'
  /** A node of it has failed and Slurm may not requeue it. */
  | 'node-failure'
  /** By scancel, by an admin, by its own end: nobody wants it continued. */
  | 'cancelled'

/** Of what `scontrol show job` says, the part that tells. */
export interface JobWords {
  readonly state: string
  readonly reason: string
  readonly restarts: number
  readonly preemptTime: number | undefined
}

const inQueue = new Set(['PENDING', 'REQUEUED', 'REQUEUE_HOLD', 'SPECIAL_EXIT', 'CONFIGURING'])

/**
 * While Slurm ends a job its state is COMPLETING, whatever the reason; what tells then are the count of restarts (a requeue
 * counts at once), `Reason=TimeLimit`, and a PreemptTime. Seen with Slurm 24.11: tests/long/preemption.test.ts.
 * @param restarts those of the stint that is meant
 */
export function endingOf(job: JobWords, restarts: number): Ending {
  if (job.restarts > restarts || inQueue.has(job.state)) return 'requeued'
  if (job.state === 'SUSPENDED') return 'suspended'
  if (job.state === 'NODE_FAIL') return 'node-failure'
  if (job.state === 'TIMEOUT' || (job.state === 'COMPLETING' && job.reason === 'TimeLimit')) return 'timeout'
  if (job.state === 'PREEMPTED' || (job.preemptTime !== undefined && (job.state === 'COMPLETING' || job.state === 'RUNNING'))) return 'preempted'
  return job.state === 'RUNNING' ? 'none' : 'cancelled'
}
