import { StintError, asStintError } from '../core/errors.ts'
import type { CommandRunner } from '../linux/command.ts'

export interface NodeJob {
  readonly jobId: number
  readonly user: string
}

/** Reads `squeue -h -o '%A %u'`. */
export function parseNodeJobs(text: string): NodeJob[] {
  return [...text.matchAll(/^\s*(\d+) (\S+)\s*$/gm)].map((match) => ({ jobId: Number(match[1]), user: match[2] ?? '' }))
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
