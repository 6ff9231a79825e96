import { StintError } from '../core/errors.ts'
import { requireNumbers, type SlurmJob } from './job.ts'

/**
 * `scontrol show job ID --json`: every field apart, whatever its owner has written into name, comment and directories. The shapes of
 * fields are those of the data_parser plugins v0.0.37 (Slurm 22.05) and later: numbers are plain or `{set, infinite, number}`, states
 * a word or a list. What has another shape is refused, not guessed.
 */

type Fields = Readonly<Record<string, unknown>>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Undefined for unset and infinite. */
function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value
  if (!isFields(value) || value['set'] !== true || value['infinite'] === true) return undefined
  return typeof value['number'] === 'number' ? value['number'] : undefined
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Flags stand beside the base state; scontrol's text shows one of them, the first of these (job_state_string of Slurm 24.11). */
const flags = ['COMPLETING', 'STAGE_OUT', 'CONFIGURING', 'RESIZING', 'REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD', 'SPECIAL_EXIT', 'STOPPED', 'REVOKED', 'RESV_DEL_HOLD', 'SIGNALING']

function stateOf(value: unknown): string {
  const states = (Array.isArray(value) ? value : [value]).filter((one) => typeof one === 'string')
  return flags.find((flag) => states.includes(flag)) ?? states[0] ?? 'UNKNOWN'
}

/** Seconds since 1970; 0 stands for none. */
function timeOf(value: unknown): number | undefined {
  const seconds = numberOf(value)
  return seconds === undefined || seconds <= 0 ? undefined : seconds
}

function isInfinite(value: unknown): boolean {
  return isFields(value) ? value['infinite'] === true : value === 4_294_967_295 // INFINITE of slurm.h, as old versions print it.
}

function nameOf(job: Fields, jobId: number): string {
  const [array, task] = [numberOf(job['array_job_id']), numberOf(job['array_task_id'])]
  return array === undefined || array === 0 || task === undefined ? String(jobId) : `${array}_${task}`
}

/** As scontrol's text has it: the end of a job without limit is not known. */
function endOf(job: Fields): number | undefined {
  return isInfinite(job['time_limit']) ? undefined : timeOf(job['end_time'])
}

function jobOf(job: Fields, jobId: number): SlurmJob {
  const [uid, requeue, restarts] = [numberOf(job['user_id']), job['requeue'], numberOf(job['restart_cnt'])]
  if (uid === undefined || typeof requeue !== 'boolean' || restarts === undefined) {
    throw new StintError('E_SLURM', `scontrol --json tells user_id, requeue or restart_cnt of job ${jobId} in a form that is not known`)
  }
  return requireNumbers({
    jobId,
    name: nameOf(job, jobId),
    state: stateOf(job['job_state']),
    reason: textOf(job['state_reason']),
    uid,
    requeue,
    restarts,
    endTime: endOf(job),
    preemptTime: timeOf(job['preempt_time']),
    nodes: textOf(job['nodes']),
    batchHost: textOf(job['batch_host']) === '' ? undefined : textOf(job['batch_host']),
    partition: textOf(job['partition']),
    requiredNodes: textOf(job['required_nodes']),
    excludedNodes: textOf(job['excluded_nodes']),
    adminComment: textOf(job['admin_comment']),
  })
}

function jobsOf(text: string): readonly unknown[] | undefined {
  try {
    const answer: unknown = JSON.parse(text)
    return isFields(answer) && Array.isArray(answer['jobs']) ? answer['jobs'] : undefined
  } catch {
    return undefined // @NOTE The caller says what was printed instead.
  }
}

/**
 * @returns undefined when the job is not in it: Slurm 24.11 prints an empty list, without error, for a job that it does not know
 *   and when slurmctld does not answer
 * @throws StintError E_SLURM when a field has an unknown form; when it is no list of jobs, `details.printed` has the beginning
 */
export function parseJobJson(text: string, jobId: number): SlurmJob | undefined {
  const jobs = jobsOf(text)
  if (jobs === undefined) throw new StintError('E_SLURM', 'scontrol printed no JSON with a list of jobs', { details: { printed: text.slice(0, 200) } })
  const job = jobs.filter(isFields).find((one) => numberOf(one['job_id']) === jobId)
  return job === undefined ? undefined : jobOf(job, jobId)
}
