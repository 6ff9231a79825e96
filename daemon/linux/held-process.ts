import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import koffi from 'koffi'
import { StintError } from '../core/errors.ts'
import { parseStat, unlessGone, type ProcessStat } from './processes.ts'

export type Namespace = 'pid' | 'mnt' | 'net' | 'ipc' | 'uts' | 'user'

/** A process's directory in a proc file system: of a held process, or `/proc/self`. */
export interface ProcessPlace {
  /** Reads below it fail as for a process that has ended (ENOENT, ESRCH) once this very process has. */
  readonly proc: string
}

/** This daemon, and with it the node. */
export const ownProcess: ProcessPlace = { proc: '/proc/self' }

/** A name that no process has. */
const nobody = '/proc/0'
/** Options of nsenter(1). */
const nsenterOption: Record<Namespace, string> = { pid: '--pid', mnt: '--mount', net: '--net', ipc: '--ipc', uts: '--uts', user: '--user' }
/** The same on all architectures (include/uapi/asm-generic/unistd.h); since Linux 5.1. */
const SYS_pidfd_send_signal = 424
const signalNumbers = { SIGKILL: 9, SIGTERM: 15, SIGCONT: 18 } as const
/**
 * Seconds after its release in which the number of a descriptor is given to no other file: whoever still walks below `proc` by then, in a
 * worker or in a helper that starts slowly, meets a process that has ended, not another sandbox.
 */
const restSeconds = 600

type SendSignal = (number: number, ...rest: unknown[]) => number
let syscall: SendSignal | undefined

function loadSyscall(): SendSignal {
  syscall ??= koffi.load('libc.so.6').func('long syscall(long, ...)') as unknown as SendSignal
  return syscall
}

/** Names this boot of the kernel: with it, a PID and a start time name one process for ever. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/**
 * One process, and never the next one with its number. It is held by a descriptor of its directory in /proc: the kernel keeps the process's
 * identity behind that, so that reads through it and signals to it (pidfd_send_signal(2) takes such a descriptor for a pidfd) fail with
 * ESRCH once the process is gone, whoever has the number then. Its PID and network namespaces are held, too, and with them the numbers
 * that name them.
 *
 * Whoever opens one checks that it is the right process (start time, parent, cgroup, SO_PEERPIDFD) after opening it, through it, and
 * disposes of it. Commands that enter it are built from `enter` and started at once: they reach the descriptor by way of this daemon.
 */
export class HeldProcess implements Disposable, ProcessPlace {
  /** For messages, records and device names. Nothing is done by it. */
  readonly pid: number
  #directory: number | undefined
  readonly #namespaces = new Map<'pid' | 'net', number>()

  private constructor(pid: number, directory: number | undefined) {
    this.pid = pid
    this.#directory = directory
  }

  /**
   * @param startTime of the process that is meant (ProcessStat.startTime), where that is known
   * @returns it as one that has ended when there is no such process
   */
  static open(pid: number, startTime?: number): HeldProcess {
    return HeldProcess.#openAt(pid, `/proc/${pid}`, startTime)
  }

  /** What another process of ours holds, by its `proc`. */
  static again({ pid, proc }: Pick<HeldProcess, 'pid' | 'proc'>): HeldProcess {
    return HeldProcess.#openAt(pid, proc, undefined)
  }

  static #openAt(pid: number, path: string, startTime: number | undefined): HeldProcess {
    const directory = unlessGone(() => openSync(path, constants.O_RDONLY | constants.O_DIRECTORY))
    const held = new HeldProcess(pid, directory)
    const stat = held.stat()
    if (stat === undefined || (startTime !== undefined && stat.startTime !== startTime)) held[Symbol.dispose]()
    else for (const kind of ['pid', 'net'] as const) held.#hold(kind)
    return held
  }

  /** A process without namespaces is a zombie. */
  #hold(kind: 'pid' | 'net'): void {
    const descriptor = unlessGone(() => openSync(`${this.proc}/ns/${kind}`, constants.O_RDONLY))
    if (descriptor !== undefined) this.#namespaces.set(kind, descriptor)
  }

  /** For this process and for programs that it starts; a process that has ended has a path that leads nowhere. */
  get proc(): string {
    return this.#directory === undefined ? nobody : `/proc/${process.pid}/fd/${this.#directory}`
  }

  /** Undefined once it was reaped. */
  stat(): ProcessStat | undefined {
    const text = unlessGone(() => readFileSync(`${this.proc}/stat`, 'utf8'))
    return text === undefined ? undefined : parseStat(this.pid, text)
  }

  /** What the expression's group matches in /proc/PID/status; undefined once it was reaped. */
  #statusNumber(expression: RegExp): number | undefined {
    const text = unlessGone(() => readFileSync(`${this.proc}/status`, 'utf8'))
    const found = expression.exec(text ?? '')?.[1]
    return found === undefined ? undefined : Number(found)
  }

  /** A zombie is not. */
  get isAlive(): boolean {
    const state = this.stat()?.state
    return state !== undefined && state !== 'Z' && state !== 'X'
  }

  /** Its effective user id; undefined once it was reaped. */
  get uid(): number | undefined {
    return this.#statusNumber(/^Uid:\s+\d+\s+(\d+)/m)
  }

  /** Its real user id; undefined once it was reaped. */
  get realUid(): number | undefined {
    return this.#statusNumber(/^Uid:\s+(\d+)/m)
  }

  /** Its PID as its own PID namespace counts; undefined once it was reaped. */
  get innerPid(): number | undefined {
    return this.#statusNumber(/^NSpid:.*\s(\d+)$/m)
  }

  /** A namespace's identity, such as `pid:[4026531836]`; undefined when it has ended. As long as this is held, no other namespace has the number. */
  namespace(kind: Namespace): string | undefined {
    return unlessGone(() => readlinkSync(`${this.proc}/ns/${kind}`))
  }

  /** Whether it shares this namespace with the node. @throws StintError E_NOT_RUNNING when it has ended */
  isNodes(kind: Namespace): boolean {
    const [its, nodes] = [unlessGone(() => statSync(`${this.proc}/ns/${kind}`)), statSync(`/proc/self/ns/${kind}`)]
    if (its === undefined) throw new StintError('E_NOT_RUNNING', `process ${this.pid} has ended`)
    return its.ino === nodes.ino && its.dev === nodes.dev
  }

  /**
   * Arguments of nsenter(1) that lead into its namespaces. The node's own are never entered.
   * @param kinds `net?` is left out where the process has the node's own (net=host)
   * @throws StintError E_NOT_RUNNING when it has ended, E_NOT_VERIFIED when it is not in a sandbox
   */
  enter(...kinds: readonly (Namespace | 'net?')[]): string[] {
    return kinds.flatMap((wanted) => {
      const kind = wanted === 'net?' ? 'net' : wanted
      if (!this.isNodes(kind)) return [`${nsenterOption[kind]}=${this.proc}/ns/${kind}`]
      if (wanted === 'net?') return []
      throw new StintError('E_NOT_VERIFIED', `the ${kind} namespace of process ${this.pid} is the node's own`)
    })
  }

  /**
   * Its network namespace, also when all its processes have ended; undefined for the node's own.
   * @returns a descriptor that lives as long as this
   */
  get heldNetwork(): number | undefined {
    const descriptor = this.#namespaces.get('net')
    return descriptor === undefined || fstatSync(descriptor).ino === statSync('/proc/self/ns/net').ino ? undefined : descriptor
  }

  /** Signals this very process. One that has ended is no error. @throws Error with the errno of pidfd_send_signal(2) */
  signal(signal: keyof typeof signalNumbers): void {
    if (this.#directory === undefined) return
    const result = loadSyscall()(SYS_pidfd_send_signal, 'int', this.#directory, 'int', signalNumbers[signal], 'void *', null, 'unsigned int', 0)
    const errno = koffi.errno()
    if (result !== 0 && errno !== koffi.os.errno['ESRCH']) throw new StintError('E_INTERNAL', `process ${this.pid} could not be signalled: errno ${errno}`)
  }

  /** For a sandbox that is given up: others may still walk below `proc`. */
  release(): void {
    const directory = this.#directory
    this.#directory = undefined
    this.#closeNamespaces()
    if (directory !== undefined) setTimeout(() => { closeSync(directory) }, restSeconds * 1000).unref()
  }

  #closeNamespaces(): void {
    for (const descriptor of this.#namespaces.values()) closeSync(descriptor)
    this.#namespaces.clear()
  }

  /** At once: for who has given `proc` to nobody. */
  [Symbol.dispose](): void {
    if (this.#directory !== undefined) closeSync(this.#directory)
    this.#directory = undefined
    this.#closeNamespaces()
  }
}
