import { copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { StintError } from '../../../daemon/core/errors.ts'
import type { CommandRunner } from '../../../daemon/linux/command.ts'
import { firstError } from './log.ts'

/** CRIU's own name; `criu dump` writes it only with --cpu-cap, and then while the payload is frozen. */
const fileName = 'cpuinfo.img'

/**
 * What a node's CPU can do, by CRIU's record: made once per start of the daemon, put into every image, compared before a restore.
 * CRIU asks for every instruction set and every register of the CPU the image was made on; one that can do more is fit, too.
 */
export class CpuRecord {
  readonly #commands: CommandRunner
  readonly #criu: string
  readonly #directory: string
  #taken = false

  /** @param directory for this node's own record */
  constructor(commands: CommandRunner, criu: string, directory: string) {
    this.#commands = commands
    this.#criu = criu
    this.#directory = directory
  }

  /** @throws StintError E_COMMAND_FAILED */
  async take(): Promise<void> {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
    await this.#commands.run([this.#criu, 'cpuinfo', 'dump', '--no-default-config', '--images-dir', this.#directory])
    this.#taken = true
  }

  /** Into a directory of CRIU's images; nothing while there is no record. */
  addTo(images: string): void {
    if (this.#taken) copyFileSync(join(this.#directory, fileName), join(images, fileName))
  }

  /** An image without a record fits everywhere. @throws StintError E_CPU_UNFIT with CRIU's reason, E_COMMAND_FAILED when it cannot be told */
  async assertFits(images: string): Promise<void> {
    if (!existsSync(join(images, fileName))) return
    // 1 is CRIU's answer to a CPU that lacks something; standard error is its log, as no --log-file is given.
    const { exitCode, stdout, stderr } = await this.#commands.run([this.#criu, 'cpuinfo', 'check', '--no-default-config', '--images-dir', images], { expected: [0, 1] })
    if (exitCode === 0) return
    throw new StintError('E_CPU_UNFIT', `this node's CPU lacks what the program may use: ${firstError(`${stdout}\n${stderr}`) ?? 'criu cpuinfo check says no'}`)
  }
}
