import { StintError, asStintError } from '../core/errors.ts'
import type { CommandRunner } from '../linux/command.ts'

/** What the daemon wants to know of a job; times in seconds since 1970. */
export interface SlurmJob {
  readonly jobId: number
  readonly state: string
  readonly uid: number
  readonly requeue: boolean
  readonly restarts: number
  readonly endTime: number | undefined
  readonly preemptTime: number | undefined
  readonly nodes: string
  readonly batchHost: string | undefined
}

/** `2026-11-23T20:15:00` in the local zone, as scontrol prints it; undefined for Unknown, None, N/A. */
export function parseSlurmTime(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{4}-\d\d-\d\dT/.test(text)) return undefined
  const milliseconds = new Date(text).getTime()
  return Number.isNaN(milliseconds) ? undefined : milliseconds / 1000
}

/**
 * Reads `scontrol show job -o ID` (one line of Key=Value words).
 * @throws StintError E_SLURM when the text is no job
 */
export function parseJob(text: string): SlurmJob {
  const fields = new Map([...text.matchAll(/(?:^|\s)([A-Za-z/:_]+)=(\S*)/g)].map((m) => [m[1] ?? '', m[2] ?? ''] as const))
  const jobId = Number(fields.get('JobId'))
  const uid = /\((\d+)\)/.exec(fields.get('UserId') ?? '')?.[1]
  if (!Number.isInteger(jobId) || jobId <= 0 || uid === undefined) throw new StintError('E_SLURM', `scontrol printed no job: ${text.slice(0, 200)}`)
  return {
    jobId,
    state: fields.get('JobState') ?? 'UNKNOWN',
    uid: Number(uid),
    requeue: fields.get('Requeue') === '1',
    restarts: Number(fields.get('Restarts') ?? 0),
    endTime: parseSlurmTime(fields.get('EndTime')),
    preemptTime: parseSlurmTime(fields.get('PreemptTime')),
    nodes: fields.get('NodeList') ?? '',
    batchHost: fields.get('BatchHost'),
  }
}

export class Scontrol {
  readonly #commands: CommandRunner
  readonly #program: string
  readonly #timeoutSeconds: number

  constructor(commands: CommandRunner, program: string, timeoutSeconds: number) {
    this.#commands = commands
    this.#program = program
    this.#timeoutSeconds = timeoutSeconds
  }

  async #call(...args: string[]): Promise<string> {
    try {
      // SLURM_TIME_FORMAT unset: the standard form that parseSlurmTime reads.
      return (await this.#commands.run([this.#program, ...args], { timeoutSeconds: this.#timeoutSeconds })).stdout
    } catch (cause) {
      throw new StintError('E_SLURM', asStintError(cause).message, { cause })
    }
  }

  /** @throws StintError E_SLURM when slurmctld does not answer or does not know the job */
  async showJob(jobId: number): Promise<SlurmJob> {
    return parseJob(await this.#call('show', 'job', '-o', String(jobId)))
  }

  /** Puts a running job back into the queue under its id; its processes are ended by Slurm. */
  async requeue(jobId: number): Promise<void> {
    await this.#call('requeue', String(jobId))
  }

  /** The same, held until somebody releases it; `comment` shows in `scontrol show job`. */
  async requeueHold(jobId: number, comment: string): Promise<void> {
    await this.#call('requeuehold', String(jobId))
    await this.#call('update', `jobid=${jobId}`, `comment=${comment}`)
  }

  /** slurm.conf as slurmctld runs it. */
  async showConfig(): Promise<ReadonlyMap<string, string>> {
    const text = await this.#call('show', 'config')
    return new Map(text.split('\n').flatMap((line) => {
      const match = /^(\S+)\s+= (.*)$/.exec(line)
      return match?.[1] === undefined || match[2] === undefined ? [] : [[match[1], match[2].trim()] as const]
    }))
  }
}
