import { StintError, asStintError } from '../core/errors.ts'
import type { CommandRunner } from '../linux/command.ts'

/** Who submits. */
export interface Submitter { readonly uid: number; readonly gid: number; readonly user: string }

/** Submits jobs as their owners. */
export class Sbatch {
  readonly #commands: CommandRunner
  readonly #programs: { readonly sbatch: string; readonly setpriv: string }
  readonly #timeoutSeconds: number

  constructor(commands: CommandRunner, programs: { readonly sbatch: string; readonly setpriv: string }, timeoutSeconds: number) {
    this.#commands = commands
    this.#programs = programs
    this.#timeoutSeconds = timeoutSeconds
  }

  /** Submits a script, held, without any right of root. @returns the new job's id @throws StintError E_SLURM */
  async submitHeld(by: Submitter, options: readonly string[], script: string): Promise<number> {
    const { sbatch, setpriv } = this.#programs
    try {
      const { stdout } = await this.#commands.run(
        [setpriv, `--reuid=${by.uid}`, `--regid=${by.gid}`, '--init-groups', '--inh-caps=-all', '--', sbatch, '--parsable', '--hold', ...options],
        { input: script, timeoutSeconds: this.#timeoutSeconds, env: { USER: by.user, LOGNAME: by.user } },
      )
      const job = Number(/^(\d+)/.exec(stdout)?.[1])
      if (!Number.isInteger(job) || job < 1) throw new Error(`sbatch printed no job id: ${stdout.slice(0, 200)}`)
      return job
    } catch (cause) {
      throw new StintError('E_SLURM', asStintError(cause).message, { cause })
    }
  }
}
