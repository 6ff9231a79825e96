import { fork, type ChildProcess } from 'node:child_process'
import { Places } from '../core/budgets.ts'
import { StintError, asStintError, isErrorCode } from '../core/errors.ts'

export interface HelperPoolOptions {
  /** File of the program, which calls {@link serveHelper}. */
  readonly program: string
  /** Helpers at most. */
  readonly size: number
  /** Of one helper's heap; it ends beyond that. MiB. */
  readonly memoryMb: number
  /** What each helper is told before its first work. */
  readonly setup: unknown
}

export interface HelperWork {
  /** For whom: nobody's work takes all helpers while another's waits. */
  readonly uid: number
  readonly work: unknown
  /** A payload stands frozen for it. */
  readonly urgent: boolean
  /** The helper is ended then. */
  readonly seconds: number
}

interface Waiting extends HelperWork {
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: unknown) => void
}

interface Helper {
  readonly child: ChildProcess
  /** What it does now. */
  task: Waiting | undefined
  limit: NodeJS.Timeout | undefined
  idle: NodeJS.Timeout | undefined
}

/** How an error travels between the processes. */
interface SentError {
  readonly code: string
  readonly message: string
  readonly hint: string
  readonly details: Readonly<Record<string, unknown>>
}

type Reply = { readonly answer: unknown } | { readonly error: SentError }

/** All helpers but one end when they had nothing to do for so long, milliseconds. */
const idleMilliseconds = 60_000

/** What became of a helper that did not answer. */
export const helperLost = 'helperLost'

/**
 * Processes that do what must not stop the event loop: work whose size a user chooses. One piece of work each at a time, with limits on
 * time and memory. Processes, not threads: a thread that hangs in a system call (a file system of the user's that does not answer)
 * cannot be ended.
 */
export class HelperPool implements Disposable {
  readonly #options: HelperPoolOptions
  readonly #helpers = new Set<Helper>()
  readonly #queue: Waiting[] = []
  /** Helpers that were killed and have not ended, by the user whose work they did. */
  readonly #stuck = new Places(Infinity)
  #disposed = false

  constructor(options: HelperPoolOptions) {
    this.#options = options
  }

  /** Starts a helper, for who comes first. */
  warm(): void {
    if (this.#helpers.size === 0) this.#start()
  }

  /** Pieces of work under way and waiting. */
  get load(): { readonly running: number; readonly waiting: number } {
    return { running: [...this.#helpers].filter(({ task }) => task !== undefined).length, waiting: this.#queue.length }
  }

  /** @throws StintError as the helper does; E_COMMAND_FAILED with `details.helperLost` when it was ended by its limit (`time`) or by itself (`end`) */
  async run(work: HelperWork): Promise<unknown> {
    if (this.#stuck.taken(work.uid) > 0) throw lost('time', "an earlier piece of work for the same user hangs in the kernel")
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...work, resolve, reject })
      this.#dispatch()
    })
  }

  #running(uid: number): number {
    return [...this.#helpers].filter(({ task }) => task?.uid === uid).length
  }

  /** The next that may run: what is urgent first, then whoever has least under way, then who came first. One user leaves a helper to others. */
  #next(): Waiting | undefined {
    const share = Math.max(1, this.#options.size - 1)
    const [first] = this.#queue.filter(({ uid }) => this.#running(uid) < share)
      .toSorted((a, b) => Number(b.urgent) - Number(a.urgent) || this.#running(a.uid) - this.#running(b.uid))
    if (first !== undefined) this.#queue.splice(this.#queue.indexOf(first), 1)
    return first
  }

  #dispatch(): void {
    for (;;) {
      const free = [...this.#helpers].find(({ task }) => task === undefined)
      if (free === undefined && this.#helpers.size >= this.#options.size) return
      const task = this.#next()
      if (task === undefined) return
      this.#give(free ?? this.#start(), task)
    }
  }

  #start(): Helper {
    const child = fork(this.#options.program, [], {
      execArgv: [`--max-old-space-size=${this.#options.memoryMb}`], cwd: '/', serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', ...pick('NODE_COMPILE_CACHE', 'STINT_LOG_LEVEL') },
    })
    const helper: Helper = { child, task: undefined, limit: undefined, idle: undefined }
    this.#helpers.add(helper)
    child.on('message', (reply: Reply) => { this.#done(helper, reply) })
    child.on('error', (error) => { this.#lose(helper, error.message) })
    child.on('exit', (code, signal) => { this.#lose(helper, `it ended with ${signal ?? String(code)}`) })
    child.send({ setup: this.#options.setup }, () => undefined) // A helper that is gone is told by its exit.
    child.unref()
    child.channel?.unref()
    return helper
  }

  #give(helper: Helper, task: Waiting): void {
    clearTimeout(helper.idle)
    helper.task = task
    helper.limit = setTimeout(() => { this.#end(helper, task) }, task.seconds * 1000).unref()
    helper.child.send({ work: task.work }, () => undefined)
  }

  #done(helper: Helper, reply: Reply): void {
    const { task } = helper
    clearTimeout(helper.limit)
    helper.task = undefined
    helper.idle = setTimeout(() => { if (this.#helpers.size > 1) this.#drop(helper) }, idleMilliseconds).unref()
    if ('answer' in reply) task?.resolve(reply.answer)
    else task?.reject(asSent(reply.error))
    this.#dispatch()
  }

  /** Its time is over. Whoever hangs in the kernel ends later; until then its user gets no other helper. */
  #end(helper: Helper, task: Waiting): void {
    const place = this.#stuck.take(task.uid)
    helper.child.once('exit', () => { place?.[Symbol.dispose]() })
    this.#drop(helper)
    task.reject(lost('time', `it took more than ${task.seconds} s`))
    this.#dispatch()
  }

  #lose(helper: Helper, why: string): void {
    const { task } = helper
    if (!this.#helpers.has(helper)) return
    this.#drop(helper)
    task?.reject(lost('end', why))
    this.#dispatch()
  }

  #drop(helper: Helper): void {
    clearTimeout(helper.limit)
    clearTimeout(helper.idle)
    this.#helpers.delete(helper)
    helper.child.kill('SIGKILL')
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return
    this.#disposed = true
    for (const task of this.#queue.splice(0)) task.reject(lost('end', 'the daemon ends'))
    for (const helper of [...this.#helpers]) {
      helper.task?.reject(lost('end', 'the daemon ends'))
      this.#drop(helper)
    }
  }
}

function pick(...names: string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])))
}

function lost(how: 'time' | 'end', why: string): StintError {
  return new StintError('E_COMMAND_FAILED', `a helper process did not answer: ${why}`, { details: { [helperLost]: how } })
}

function asSent({ code, message, hint, details }: SentError): StintError {
  return new StintError(isErrorCode(code) ? code : 'E_INTERNAL', message, { hint, details: { ...details } })
}

/**
 * The other side: carries out one piece of work after another, and ends with the daemon.
 * @param prepare makes what carries them out from what the pool was given as `setup`
 */
export function serveHelper(prepare: (setup: unknown) => (work: unknown) => Promise<unknown>): void {
  let act: ((work: unknown) => Promise<unknown>) | undefined
  const send = (reply: Reply): void => { process.send?.(reply) }
  const carryOut = async (work: unknown): Promise<void> => {
    try {
      if (act === undefined) throw new StintError('E_INTERNAL', 'a helper was not set up')
      send({ answer: await act(work) })
    } catch (cause) {
      const { code, message, hint, details } = asStintError(cause)
      send({ error: { code, message, hint, details } })
    }
  }
  process.on('message', (message: { readonly setup: unknown } | { readonly work: unknown }) => {
    if ('setup' in message) act = prepare(message.setup)
    else void carryOut(message.work)
  })
  // eslint-disable-next-line no-restricted-syntax -- its work may hang or go on for long, and nobody waits for it any more
  process.on('disconnect', () => { process.exit() })
}
