import { StintError, asStintError } from '../core/errors.ts'
import type { CommandRunner } from '../linux/command.ts'
import { isNumber32 } from './job.ts'

export interface NodeJob {
  readonly jobId: number
  readonly user: string
}

/** Reads `squeue -h -o '%A %u'`. */
export function parseNodeJobs(text: string): NodeJob[] {
  return [...text.matchAll(/^ *(\d+) (\S+) *$/gm)].map((match) => ({ jobId: Number(match[1]), user: match[2] ?? '' })).filter(({ jobId }) => isNumber32(jobId))
}

/** Reads `squeue -h -o '%A|%T'`. */
export function parseJobStates(text: string): Map<number, string> {
  return new Map([...text.matchAll(/^ *(\d+)\|([A-Z_]+) *$/gm)].map((match) => [Number(match[1]), match[2] ?? ''] as const).filter(([jobId]) => isNumber32(jobId)))
}

export class Squeue {
  readonly #commands: CommandRunner
  readonly #program: string
  readonly #timeoutSeconds: number

  constructor(commands: CommandRunner, program: string, timeoutSeconds: number) {
    this.#commands = commands
    this.#program = program
    this.#timeoutSeconds = timeoutSeconds
  }

  /** States of those of the jobs that slurmctld knows, in one call: of jobs that are over it does for MinJobAge. @throws StintError E_SLURM */
  async statesOf(jobs: readonly number[]): Promise<Map<number, string>> {
    try {
      const { stdout } = await this.#commands.run([this.#program, '--noheader', `--jobs=${jobs.join(',')}`, '--states=all', '--format=%A|%T'], { timeoutSeconds: this.#timeoutSeconds })
      return parseJobStates(stdout)
    } catch (cause) {
      const { message } = asStintError(cause)
      // A single one that it does not know is an error to squeue; of several it leaves such out.
      if (message.includes('Invalid job id specified')) return new Map()
      throw new StintError('E_SLURM', message, { cause })
    }
  }

  /** Jobs that have the node now, running or suspended. @throws StintError E_SLURM */
  async jobsOn(node: string): Promise<NodeJob[]> {
    try {
      const { stdout } = await this.#commands.run([this.#program, '--noheader', `--nodelist=${node}`, '--states=RUNNING,SUSPENDED', '--format=%A %u'], { timeoutSeconds: this.#timeoutSeconds })
      return parseNodeJobs(stdout)
    } catch (cause) {
      throw new StintError('E_SLURM', asStintError(cause).message, { cause })
    }
  }
}
