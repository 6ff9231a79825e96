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
