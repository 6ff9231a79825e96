import { readFileSync } from 'node:fs'
import { StintError } from '../core/errors.ts'
import type { RehearsalView } from '../core/rehearsal.ts'
import type { CommandRunner } from './command.ts'
import { HeldProcess } from './held-process.ts'

export interface ThrowAwayPrograms {
  readonly nsenter: string
  readonly unshare: string
  /** stint-init. */
  readonly init: string
}

/** The child of a program of ours, which has one only. */
function onlyChild(parent: number): HeldProcess | undefined {
  const held = HeldProcess.open(Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim()))
  if (held.stat()?.parent === parent) return held
  held[Symbol.dispose]()
  return undefined
}

/**
 * A sandbox like a payload's, made from inside its mount and UTS namespaces, in which nothing on any file system can be changed
 * (plugins/spank/init/rehearse.c). It ends with `using`, or with the daemon.
 */
export class ThrowAway implements AsyncDisposable {
  readonly pid1: HeldProcess
  readonly #end: () => Promise<void>

  private constructor(pid1: HeldProcess, end: () => Promise<void>) {
    this.pid1 = pid1
    this.#end = end
  }

  /** @param target PID 1 of the payload's sandbox @throws StintError E_COMMAND_FAILED with what could not be made */
  static async make(commands: CommandRunner, programs: ThrowAwayPrograms, target: HeldProcess, view: RehearsalView): Promise<ThrowAway> {
    const words = [...view.over.flatMap((path) => ['over', path]), ...view.write.flatMap((path) => ['write', path]), 'go']
    const program = commands.startTied(
      [programs.nsenter, ...target.enter('mnt', 'uts'), '--wd=/', '--no-fork', '--', programs.unshare, '--pid', '--mount', '--ipc', '--net', '--fork', '--kill-child', '--', programs.init, 'rehearse'],
      words.map((word) => `${word}\0`).join(''),
    )
    const said = await program.firstLine
    const pid1 = said === 'ready' ? onlyChild(program.pid) : undefined
    if (pid1 !== undefined) return new ThrowAway(pid1, async () => program.end())
    await program.end()
    throw new StintError('E_COMMAND_FAILED', `no sandbox to rehearse in: ${said}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
    this.pid1.release()
  }
}
