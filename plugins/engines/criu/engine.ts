import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { StintError, systemCode, type ErrorCode } from '../../../daemon/core/errors.ts'
import { ownCapabilities } from '../../../daemon/linux/capabilities.ts'
import type { CommandRunner, DetachedProgram } from '../../../daemon/linux/command.ts'
import { signalProcess } from '../../../daemon/linux/processes.ts'
import type { DumpRequest, Engine, PreparedDump, RestoreRequest, RunningDump, RunningRestore } from '../engine.ts'
import { abortAt, Barrier } from './barrier.ts'
import { dumpArgv, dumpEnvironment, restoreArgv, type CriuPrograms } from './command-lines.ts'
import { firstError, remedyFor } from './log.ts'

/** The first real error of a log file with its remedy, as a coded error. */
function failure(code: ErrorCode, logPath: string, outputPath: string, exitCode: number): StintError {
  const text = [logPath, outputPath].map((path) => readIfThere(path)).join('\n')
  const first = firstError(text) ?? `criu ended with ${exitCode}: ${text.trim().split('\n').at(-1) ?? ''}`
  return new StintError(code, first, { hint: remedyFor(first), details: { log: logPath, exitCode } })
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return ''
    throw error
  }
}

/** CRIU on bare processes. */
export class CriuEngine implements Engine {
  readonly name = 'criu'
  readonly #commands: CommandRunner
  readonly #programs: CriuPrograms

  constructor(commands: CommandRunner, programs: CriuPrograms) {
    this.#commands = commands
    this.#programs = programs
  }

  /** Also fills CRIU's cache of kernel features (/run/criu.kdat), which saves every later call 25 to 35 ms. */
  async version(): Promise<string> {
    const { stdout } = await this.#commands.run([this.#programs.criu, '--version'])
    return /^Version: (\S+)/m.exec(stdout)?.[1] ?? 'unknown'
  }

  async startDump(request: DumpRequest): Promise<RunningDump> {
    const directory = join(request.directory, 'criu')
    mkdirSync(directory, { mode: 0o700 })
    const log = join(request.runDirectory, 'dump.log')
    const output = join(request.runDirectory, 'dump.out')
    for (const old of [log, output]) rmSync(old, { force: true })
    const barrier = new Barrier(request.runDirectory)
    await barrier.open()
    let program: DetachedProgram
    try {
      program = this.#commands.startDetached(dumpArgv(this.#programs, request), output, dumpEnvironment(this.#programs, barrier.path, request.barrierSeconds))
    } catch (error) {
      await barrier[Symbol.asyncDispose]()
      throw error
    }
    barrier.expect(program.pid)
    return { pid: program.pid, prepared: this.#prepared(barrier, program, log, output) }
  }

  async abandonDump(runDirectory: string): Promise<AsyncDisposable> {
    return abortAt(runDirectory)
  }

  async #prepared(barrier: Barrier, program: DetachedProgram, log: string, output: string): Promise<PreparedDump> {
    const exitCode = await Promise.race([barrier.reached.then(() => undefined), program.ended])
    if (exitCode !== undefined) {
      await barrier[Symbol.asyncDispose]()
      throw failure('E_CRIU_DUMP_FAILED', log, output, exitCode)
    }
    return {
      commit: async () => {
        barrier.commit()
        const code = await program.ended
        await barrier[Symbol.asyncDispose]()
        if (code !== 0) throw failure('E_CRIU_DUMP_FAILED', log, output, code)
      },
      abort: async () => {
        barrier.abort()
        await program.ended
        await barrier[Symbol.asyncDispose]()
      },
    }
  }

  startRestore(request: RestoreRequest): RunningRestore {
    const output = join(request.workDirectory, 'restore.out')
    const log = join(request.workDirectory, 'restore.log')
    for (const old of [log, output]) rmSync(old, { force: true })
    const program = this.#commands.startDetached(restoreArgv(this.#programs, request, ownCapabilities()), output)
    const timer = setTimeout(() => { signalProcess(-program.pid, 'SIGKILL') }, request.timeoutSeconds * 1000)
    const done = program.ended.then((code) => {
      clearTimeout(timer)
      if (code !== 0) throw failure('E_CRIU_RESTORE_FAILED', log, output, code)
    })
    return { pid: program.pid, done }
  }
}
