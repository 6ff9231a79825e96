import { closeSync, mkdirSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { StintError, systemCode, type ErrorCode } from '../../../daemon/core/errors.ts'
import type { ImageIdentity } from '../../../daemon/core/identities.ts'
import { ownCapabilities } from '../../../daemon/linux/capabilities.ts'
import type { CommandRunner, DetachedProgram } from '../../../daemon/linux/command.ts'
import { HeldProcess } from '../../../daemon/linux/held-process.ts'
import { sandboxProc } from '../../../daemon/linux/payload.ts'
import { descendsFrom, listPids } from '../../../daemon/linux/processes.ts'
import type { DeletedName, DumpRequest, Engine, EngineTarget, OrphanedEngine, RestoreRequest, RunningDump, RunningRestore } from '../engine.ts'
import { Barrier, type BarrierAction } from './barrier.ts'
import { changedFilesName, dumpArgv, dumpEnvironment, restoreArgv, restoreEnvironment, type CriuPrograms } from './command-lines.ts'
import type { CpuRecord } from './cpuinfo.ts'
import { coreIdentity } from './core-images.ts'
import { deletedNames, ghostHeadBytes, ghostsOf, withPaths } from './deleted-names.ts'
import { withoutSizes } from './images.ts'
import { firstError, isPassing, remedyFor, unknownError } from './log.ts'
import { bindingsArgv, bindingsEnvironment, unmended } from './preload.ts'

/** The first real error of a log file with its remedy, as a coded error. */
function failure(code: ErrorCode, logPath: string, outputPath: string, exitCode: number): StintError {
  const text = [logPath, outputPath].map((path) => readIfThere(path)).join('\n')
  const first = firstError(text) ?? `criu ended with ${exitCode}: ${text.trim().split('\n').at(-1) ?? ''}`
  return new StintError(code, first, { hint: remedyFor(first) ?? unknownError(text, first, logPath), details: { log: logPath, exitCode, ...(isPassing(first) ? { passing: true } : {}) } })
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return ''
    throw error
  }
}

function readHead(path: string, bytes: number): Buffer {
  const fd = openSync(path, 'r')
  try {
    const head = Buffer.alloc(bytes)
    return head.subarray(0, readSync(fd, head, 0, bytes, 0))
  } finally {
    closeSync(fd)
  }
}

/** Seconds that CRIU has to end after the word, or when it is stopped: it takes out of the payload what it put there. */
const endSeconds = 30
/** Exit code of what SIGKILL ended. */
const killed = 137

/** Whole process group: CRIU, and what was started around it. Ours as long as its first process was not waited for. */
function signalGroup(program: DetachedProgram, signal: NodeJS.Signals): void {
  program.signal(signal)
}

/** Ends what does not end by itself in time, also where somebody stops it again and again. */
function endInTime(program: DetachedProgram): void {
  const end = Date.now() + endSeconds * 1000
  signalGroup(program, 'SIGCONT')
  const timer = setInterval(() => { signalGroup(program, Date.now() > end ? 'SIGKILL' : 'SIGCONT') }, 1000)
  void program.ended.then(() => { clearInterval(timer) })
}

/** An engine that this daemon did not start, and what is around and below it. Each is held before it is looked at. */
function signalBelow(engine: HeldProcess, signal: 'SIGCONT' | 'SIGKILL'): void {
  for (const pid of listPids().filter((one) => descendsFrom(one, engine.pid))) {
    using held = HeldProcess.open(pid)
    if (descendsFrom(pid, engine.pid) && engine.isAlive) held.signal(signal)
  }
}

/** A CRIU that runs, with the barrier it will come to. */
interface Started {
  readonly barrier: Barrier
  readonly program: DetachedProgram
  readonly failure: (exitCode: number) => StintError
  /** Puts right what a killed CRIU has left behind in the payload. */
  readonly afterKill: () => Promise<void>
}

/** Waits until CRIU stands at a barrier. @throws StintError with the first error of its log when it ends before */
async function atBarrier({ barrier, program, failure, afterKill }: Started, action: BarrierAction): Promise<{ commit: () => Promise<void>; abort: () => Promise<void> }> {
  const exitCode = await Promise.race([barrier.reached(action).then(() => undefined), program.ended])
  if (exitCode !== undefined) {
    await barrier[Symbol.asyncDispose]()
    if (exitCode === killed) await afterKill()
    throw failure(exitCode)
  }
  const answer = async (word: 'commit' | 'abort'): Promise<number> => {
    barrier.say(word)
    if (action === 'post-dump') endInTime(program) // A restore has a limit of its own.
    const code = await program.ended
    await barrier[Symbol.asyncDispose]()
    if (code === killed) await afterKill()
    return code
  }
  return {
    commit: async () => {
      const code = await answer('commit')
      if (code !== 0) throw failure(code)
    },
    abort: async () => { await answer('abort') },
  }
}

/** The two barriers of a restore: between them the tasks get their identity. @throws StintError with nothing left running */
async function atRelease(started: Started, restored: () => Promise<void>): ReturnType<typeof atBarrier> {
  const standing = await atBarrier(started, 'post-restore')
  try {
    await restored()
  } catch (error) {
    await standing.abort()
    throw error
  }
  started.barrier.say('commit')
  return atBarrier(started, 'pre-resume')
}

/** Where CRIU stops in a dump and in a restore, in this order. */
const barriers = { dump: ['post-dump'], restore: ['post-restore', 'pre-resume'] } as const satisfies Record<string, readonly BarrierAction[]>

/** CRIU on bare processes. */
export class CriuEngine implements Engine {
  readonly name = 'criu'
  readonly #commands: CommandRunner
  readonly #programs: CriuPrograms
  readonly #cpu: CpuRecord

  constructor(commands: CommandRunner, programs: CriuPrograms, cpu: CpuRecord) {
    this.#commands = commands
    this.#programs = programs
    this.#cpu = cpu
  }

  /** Also fills CRIU's cache of kernel features (/run/criu.kdat), which saves every later call 25 to 35 ms. */
  async version(): Promise<string> {
    const { stdout } = await this.#commands.run([this.#programs.criu, '--version'])
    return /^Version: (\S+)/m.exec(stdout)?.[1] ?? 'unknown'
  }

  async unmended(): Promise<{ loaded: boolean; missing: string[] }> {
    const { stderr } = await this.#commands.run(bindingsArgv(this.#programs), { env: bindingsEnvironment(this.#programs) })
    return unmended(stderr, this.#programs)
  }

  /** Starts CRIU with a barrier of its own. Besides root its barriers take the user of the target */
  async #start({ pid1, uid }: EngineTarget, directory: string, operation: 'dump' | 'restore', argv: readonly [string, ...string[]], environment: (barrier: string) => Record<string, string>): Promise<Started> {
    const [log, output] = [join(directory, `${operation}.log`), join(directory, `${operation}.out`)]
    for (const old of [log, output]) rmSync(old, { force: true })
    const barrier = new Barrier(directory, barriers[operation])
    await barrier.open()
    try {
      const program = this.#commands.startDetached(argv, output, environment(barrier.path))
      barrier.expect(HeldProcess.open(program.pid), [0, uid])
      return { barrier, program, afterKill: async () => this.#endRepair(pid1), failure: (exitCode) => failure(operation === 'dump' ? 'E_CRIU_DUMP_FAILED' : 'E_CRIU_RESTORE_FAILED', log, output, exitCode) }
    } catch (error) {
      await barrier[Symbol.asyncDispose]()
      throw error
    }
  }

  /** TCP sockets of the payload that a killed CRIU has left in repair mode, in which nothing is sent. Never throws: the payload runs on in any case. */
  async #endRepair(pid1: EngineTarget['pid1']): Promise<void> {
    try {
      const pids = listPids(sandboxProc(pid1)).filter((pid) => pid !== 1)
      await this.#commands.run([this.#programs.nsenter, ...pid1.enter('pid', 'mnt'), '--', join(this.#programs.libexecDir, 'stint-init'), 'sockets', 'end-repair', ...pids.map(String)])
    } catch {
      // @NOTE What fails here is in the log of commands; whoever asked is told that CRIU was ended.
    }
  }

  async startDump(request: DumpRequest): Promise<RunningDump> {
    const images = join(request.directory, 'criu')
    mkdirSync(images, { mode: 0o700 })
    this.#cpu.addTo(images)
    const started = await this.#start(request, request.runDirectory, 'dump', dumpArgv(this.#programs, request),
      (barrier) => dumpEnvironment(this.#programs, request, barrier))
    const { program } = started
    const stop = (): void => {
      signalGroup(program, 'SIGTERM') // Its next write fails (criu_bounds.c).
      endInTime(program)
    }
    return { pid: program.pid, prepared: atBarrier(started, 'post-dump'), stop }
  }

  async forgetSizes(directory: string, paths: readonly string[]): Promise<void> {
    const image = join(directory, 'criu', 'files.img')
    const changed = `${image}.new`
    await writeFile(changed, withoutSizes(await readFile(image), new Set(paths)), { mode: 0o600 })
    await rename(changed, image)
  }

  async deletedNames(directory: string): Promise<DeletedName[]> {
    const images = join(directory, 'criu')
    const remaps = await readFile(join(images, 'remap-fpath.img')).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return undefined // CRIU writes it only where there are any.
      throw error
    })
    const ghosts = remaps === undefined ? new Map<number, number>() : ghostsOf(remaps)
    return deletedNames(await readFile(join(images, 'files.img')), ghosts, (copy) => readHead(join(images, `ghost-file-${copy.toString(16)}.img`), ghostHeadBytes))
  }

  async identities(directory: string): Promise<ImageIdentity[]> {
    const images = join(directory, 'criu')
    const names = (await readdir(images)).filter((name) => /^core-\d+\.img$/.test(name))
    const found: ImageIdentity[] = []
    for (const name of names) found.push(coreIdentity(Number(/\d+/.exec(name)?.[0]), await readFile(join(images, name))))
    return found
  }

  async assertFits(directory: string): Promise<void> {
    await this.#cpu.assertFits(join(directory, 'criu'))
  }

  /** Into the working directory, where criu-shim.so finds it: an image is not changed. */
  async #writePaths({ directory, workDirectory, paths }: RestoreRequest): Promise<void> {
    const changed = join(workDirectory, changedFilesName)
    await rm(changed, { force: true })
    if (paths !== undefined && paths.size > 0) await writeFile(changed, withPaths(await readFile(join(directory, 'criu', 'files.img')), paths), { mode: 0o600 })
  }

  async startRestore(request: RestoreRequest): Promise<RunningRestore> {
    await this.#writePaths(request)
    const started = await this.#start(request, request.workDirectory, 'restore', restoreArgv(this.#programs, request, ownCapabilities()),
      (barrier) => restoreEnvironment(this.#programs, request, barrier))
    const { pid } = started.program
    const timer = setTimeout(() => { started.program.signal('SIGKILL') }, request.timeoutSeconds * 1000)
    void started.program.ended.then(() => { clearTimeout(timer) })
    return { pid, prepared: request.restored === undefined ? atBarrier(started, 'post-restore') : atRelease(started, request.restored) }
  }

  async answerOrphan({ runDirectory, pid1, pid, startTime, uid, operation, word, timeoutSeconds, ended }: OrphanedEngine): Promise<void> {
    using orphan = HeldProcess.open(pid, startTime)
    const end = Date.now() + timeoutSeconds * 1000
    const isLate = (): boolean => Date.now() > end
    await using barrier = new Barrier(runDirectory, barriers[operation])
    barrier.expect(HeldProcess.open(pid, startTime), [0, uid])
    await barrier.open()
    // A commit is decided at the last barrier: what comes to an earlier one has not been looked at.
    for (const action of barriers[operation]) void barrier.reached(action).then(() => { barrier.say(action === barriers[operation].at(-1) ? word : 'abort') })
    const timer = setInterval(() => { signalBelow(orphan, isLate() ? 'SIGKILL' : 'SIGCONT') }, 1000)
    try {
      await ended
    } finally {
      clearInterval(timer)
    }
    if (operation === 'dump' && isLate()) await this.#endRepair(pid1)
  }
}
