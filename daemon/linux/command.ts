import { spawn } from 'node:child_process'
import { openSync, closeSync } from 'node:fs'
import { constants } from 'node:os'
import { Readable } from 'node:stream'
import { execa } from 'execa'
import type { Logger } from 'pino'
import { StintError } from '../core/errors.ts'

const minimalEnvironment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

export interface CommandOptions {
  /** Bytes for standard input. Of what comes later: the program starts meanwhile. */
  readonly input?: string | Uint8Array | AsyncIterable<string>
  /** File to read standard input from, instead of `input`. */
  readonly inputFile?: string
  /** File that takes standard output, which is then empty in the result. */
  readonly outputFile?: string
  /** Open files that the program gets as its descriptors from 3 on. */
  readonly descriptors?: readonly number[]
  readonly env?: Readonly<Record<string, string>>
  /** Bound on what it may say, bytes; default 4 MiB. The command is killed then. */
  readonly maxOutputBytes?: number
  /** Default 15 s; 0: none. The command is killed then. */
  readonly timeoutSeconds?: number
  readonly signal?: AbortSignal
  /** Exit codes that are no error; default 0 alone. */
  readonly expected?: readonly number[]
}

export interface CommandResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** A program that was started before it is known what it is to read. */
export interface ReadyProgram extends Disposable {
  /** Not any more: it has ended by itself. */
  readonly isWaiting: boolean
  /** Once. @throws StintError as {@link CommandRunner.run} does; its time counts from here */
  read(input: AsyncIterable<string>): Promise<CommandResult>
}

const defaultTimeoutSeconds = 15

/** A program that outlives the daemon: own session, no pipes to us. */
export interface DetachedProgram {
  readonly pid: number
  /** Exit code; 128 + n after signal n. */
  readonly ended: Promise<number>
  /** Signals it and what it has started; nothing once it has ended. */
  signal(signal: NodeJS.Signals): void
}

/** A program that lives as long as its standard input is open: it ends with the daemon at the latest. */
export interface TiedProgram {
  readonly pid: number
  /** Its first line of output, or all of it when it has ended. */
  readonly firstLine: Promise<string>
  /** Closes its standard input, and kills what has not ended then. */
  end(): Promise<void>
}

function isLater(input: CommandOptions['input']): input is AsyncIterable<string> {
  return typeof input === 'object' && Symbol.asyncIterator in input
}

/** Seconds a tied program has to end by itself. */
const endSeconds = 5

/**
 * The one way this daemon starts programs: argv arrays, an absolute program, a minimal environment, a time limit,
 * bounded output.
 */
export class CommandRunner {
  readonly #log: Logger

  constructor(log: Logger) {
    this.#log = log
  }

  /** @throws StintError E_COMMAND_FAILED with the end of standard error */
  async run(argv: readonly [string, ...string[]], options: CommandOptions = {}): Promise<CommandResult> {
    const [program, ...args] = argv
    const started = performance.now()
    const result = await execa(program, args, {
      env: { ...minimalEnvironment, ...options.env },
      extendEnv: false,
      cwd: '/',
      timeout: (options.timeoutSeconds ?? defaultTimeoutSeconds) * 1000,
      killSignal: 'SIGKILL',
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
      maxBuffer: options.maxOutputBytes ?? 4 * 2 ** 20,
      reject: false,
      stripFinalNewline: true,
      // execa takes any number; its types know one digit.
      ...(options.descriptors !== undefined ? { stdio: ['pipe', 'pipe', 'pipe', ...(options.descriptors as readonly 3[])] as const } : {}),
      ...(options.outputFile !== undefined ? { stdout: { file: options.outputFile }, buffer: { stdout: false } } : {}),
      ...(options.inputFile !== undefined ? { inputFile: options.inputFile } : { input: isLater(options.input) ? Readable.from(options.input, { objectMode: false }) : options.input ?? '' }),
    })
    const { stdout = '', stderr } = result
    this.#log.debug({ argv, exitCode: result.exitCode, ms: Math.round(performance.now() - started) }, 'command')
    const exitCode = result.exitCode
    if (exitCode === undefined || !(options.expected ?? [0]).includes(exitCode)) {
      const why = result.timedOut ? 'took too long' : exitCode === undefined ? (result.signalDescription ?? result.code ?? 'did not start') : `ended with ${exitCode}`
      throw new StintError('E_COMMAND_FAILED', `${program} ${why}: ${(stderr || stdout).trim().slice(-500)}`, { details: { argv, exitCode, stderr } })
    }
    return { exitCode, stdout, stderr }
  }

  /** Starts a program that waits for its input: starting one from a process as large as this takes tens of milliseconds. */
  ready(argv: readonly [string, ...string[]]): ReadyProgram {
    const told = Promise.withResolvers<AsyncIterable<string>>()
    const limit = new AbortController()
    let isWaiting = true
    const result = this.run(argv, { input: (async function* () { yield* await told.promise })(), timeoutSeconds: 0, signal: limit.signal })
    const over = (): void => { isWaiting = false }
    result.then(over, over)
    return {
      get isWaiting() { return isWaiting },
      read: async (input) => {
        const timer = setTimeout(() => { limit.abort() }, defaultTimeoutSeconds * 1000)
        told.resolve(input)
        return result.finally(() => { clearTimeout(timer) })
      },
      [Symbol.dispose]: () => { limit.abort() },
    }
  }

  /** Starts a program that reads `input` and then waits for the end of its standard input. */
  startTied(argv: readonly [string, ...string[]], input: string): TiedProgram {
    const [program, ...args] = argv
    const child = spawn(program, args, { env: minimalEnvironment, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] })
    const ended = new Promise<void>((resolve) => { child.once('close', () => { resolve() }) })
    const { promise: firstLine, resolve } = Promise.withResolvers<string>()
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text = (text + chunk).slice(0, 2000)
        if (text.includes('\n')) resolve(text.split('\n')[0] ?? '')
      })
    }
    void ended.then(() => { resolve(text.trim()) })
    child.on('error', (error) => { resolve(error.message) })
    child.stdin.on('error', () => undefined) // It has ended; its output says why.
    child.stdin.write(input)
    if (child.pid === undefined) throw new StintError('E_COMMAND_FAILED', `${program} did not start`, { details: { argv } })
    this.#log.debug({ argv, pid: child.pid }, 'started')
    return {
      pid: child.pid,
      firstLine,
      end: async () => {
        child.stdin.end()
        const timer = setTimeout(() => { child.kill('SIGKILL') }, endSeconds * 1000)
        await ended
        clearTimeout(timer)
      },
    }
  }

  /**
   * Starts a program that goes on when this daemon dies: CRIU must reach its barrier by itself.
   * @param outputPath takes standard output and error
   */
  startDetached(argv: readonly [string, ...string[]], outputPath: string, env: Readonly<Record<string, string>> = {}): DetachedProgram {
    const [program, ...args] = argv
    const output = openSync(outputPath, 'a', 0o600)
    try {
      // Plain spawn: execa would put pipes of ours between the program and its files.
      const child = spawn(program, args, { env: { ...minimalEnvironment, ...env }, cwd: '/', detached: true, stdio: ['ignore', output, output] })
      const { promise: ended, resolve } = Promise.withResolvers<number>()
      child.once('exit', (code, signal) => { resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])) })
      child.once('error', () => { resolve(127) })
      if (child.pid === undefined) throw new StintError('E_COMMAND_FAILED', `${program} did not start`, { details: { argv } })
      child.unref()
      this.#log.debug({ argv, pid: child.pid }, 'started')
      const { pid } = child
      return {
        pid, ended,
        signal: (signal) => {
          // Until this process has reaped it, which it does between two turns of its loop, nobody else has its number.
          if (child.exitCode === null && child.signalCode === null) process.kill(-pid, signal)
        },
      }
    } finally {
      closeSync(output)
    }
  }
}
