import { StintError } from '../../daemon/core/errors.ts'
import type { Engine, OrphanedEngine, PreparedDump } from '../../plugins/engines/engine.ts'
import type { Daemon } from './daemon.ts'
import type { Simulation } from './simulation.ts'
import type { World } from './world.ts'

/** How long an engine at its barrier waits for the next daemon (STINT_BARRIER_RECONNECT), milliseconds. */
const reconnectMs = 20_000
/** How long a monitor whose payload was dumped waits for a daemon before it requeues the job itself, and between its tries, milliseconds. */
const aloneMs = 60_000
const aloneAgainMs = 30_000

/** CRIU: a process of its own, which outlives the daemon that has started it. */
export interface EngineProcess {
  readonly pid: number
  readonly operation: 'dump' | 'restore'
  readonly checkpoint: number
  /** Whose word it hears; undefined while nobody listens. */
  daemon: Daemon | undefined
  state: 'working' | 'barrier' | 'ended'
  word: 'commit' | 'abort' | undefined
  readonly spoken: PromiseWithResolvers<undefined>
  readonly ended: PromiseWithResolvers<string | undefined>
  isFailing: boolean
}

/** One node's part of the run that no daemon owns: processes, gate, monitor. What the kernel has, the next daemon finds. */
export class Machine {
  readonly node: string
  readonly member: number
  /** `restored`: it stands at a restore's barrier, and has not run. */
  payload: 'running' | 'frozen' | 'restored' | 'none' = 'running'
  gate: 'open' | 'shut' = 'open'
  isGuardAlive = true
  isHeld = false
  engine: EngineProcess | undefined
  daemon: Daemon | undefined
  readonly #world: World
  readonly #sim: Simulation
  #pids = 1000
  #aloneSince: number | undefined

  constructor(world: World, member: number) {
    this.#world = world
    this.#sim = world.sim
    this.member = member
    this.node = `n${member + 1}`
  }

  get guardPid(): number {
    return 100 + this.member
  }

  get pid1(): number {
    return 200 + this.member
  }

  isAlive(pid: number): boolean {
    if (pid === this.guardPid || pid === this.pid1) return this.isGuardAlive
    if (pid === this.engine?.pid) return this.engine.state !== 'ended'
    // The sruns of the coordinator's node: each is alive as long as the monitor that it has started.
    return this.#world.machines.some((other) => pid === 300 + other.member && other.isGuardAlive)
  }

  isFrozen(): boolean {
    return this.payload === 'frozen'
  }

  setPayload(state: Machine['payload'], why: string): void {
    if (this.payload === state) return
    this.#sim.note(`${this.node}: payload ${this.payload} -> ${state} (${why})`)
    this.payload = state
    this.#world.rules.payloadChanged(this, why)
  }

  setGate(state: Machine['gate']): void {
    if (this.gate === state) return
    this.#sim.note(`${this.node}: gate ${state}`)
    this.gate = state
    this.#world.rules.gateChanged(this)
  }

  /** The monitor's step ends, and all below it. */
  endGuard(why: string): void {
    if (!this.isGuardAlive) return
    this.#sim.note(`${this.node}: monitor ends (${why})`)
    this.isGuardAlive = false
    this.setPayload('none', why)
    if (this.engine !== undefined) this.#end(this.engine, 'killed')
    this.daemon?.link?.lose()
    this.#world.guardEnded(this)
    this.#sim.after(this.#sim.random() * 120_000, () => { this.daemon?.hear('epilog') })
  }

  /** The payload's root has ended by itself, or was killed by a dump. */
  rootEnded(how: 'dumped' | 'by itself'): void {
    this.setPayload('none', how)
    if (how === 'dumped' && this.isHeld) {
      this.#waitAlone()
      return
    }
    this.daemon?.link?.hear('exit', { status: how === 'dumped' ? 9 : 0 })
    this.#sim.after(5, () => { this.endGuard(`root ended ${how}`) })
  }

  /** What the daemon tells the monitor. */
  command(verb: string): void {
    if (!this.isGuardAlive) return
    if (verb === 'hold') {
      this.isHeld = true
      this.daemon?.link?.hear('held')
    } else if (verb === 'unhold') {
      this.isHeld = false
      if (this.payload === 'none') this.rootEnded('by itself')
      else this.daemon?.link?.hear('unheld')
    } else if (verb === 'restored') {
      this.isHeld = false
    } else if (verb === 'release') {
      this.endGuard('released')
    }
  }

  #waitAlone(): void {
    this.#aloneSince = undefined
    const look = (): void => {
      if (!this.isGuardAlive || !this.isHeld || this.payload !== 'none') return
      if (this.daemon?.isAlive === true) this.#aloneSince = undefined
      else {
        this.#aloneSince ??= this.#sim.now
        if (this.#sim.now - this.#aloneSince >= aloneMs && this.member === 0) {
          this.#world.slurm.requeue('incomplete', 'its monitor')
          this.#aloneSince = this.#sim.now - aloneMs + aloneAgainMs
        }
      }
      this.#sim.after(1000, look)
    }
    look()
  }

  #start(daemon: Daemon, operation: EngineProcess['operation'], checkpoint: number): EngineProcess {
    const process: EngineProcess = { pid: this.#pids++, operation, checkpoint, daemon, state: 'working', word: undefined, spoken: Promise.withResolvers(), ended: Promise.withResolvers(), isFailing: false }
    this.engine = process
    return process
  }

  #end(process: EngineProcess, failure?: string): void {
    if (process.state === 'ended') return
    process.state = 'ended'
    process.ended.resolve(failure)
    process.spoken.resolve(undefined)
  }

  /** The daemon's connection to the barrier. */
  say(process: EngineProcess, word: 'commit' | 'abort'): void {
    if (process.state !== 'barrier' || process.word !== undefined) return
    this.#sim.note(`${this.node}: engine is told ${word}`)
    process.word = word
    this.#world.rules.told(this, process, word)
    process.spoken.resolve(undefined)
  }

  /** Stands at its barrier until the word comes; without a daemon for too long there is none, which is an abort. */
  async #atBarrier(process: EngineProcess): Promise<'commit' | 'abort'> {
    process.state = 'barrier'
    let alone = 0
    const look = (): void => {
      if (process.state !== 'barrier' || process.word !== undefined) return
      alone = process.daemon?.isAlive === true ? 0 : alone + 500
      if (alone >= reconnectMs) process.spoken.resolve(undefined)
      else this.#sim.after(500, look)
    }
    look()
    await process.spoken.promise
    return process.word ?? 'abort'
  }

  async #runDump(process: EngineProcess, keepRunning: boolean, reached: PromiseWithResolvers<undefined>, fails: boolean): Promise<void> {
    await this.#sim.delay(200)
    if (process.state === 'ended') return
    if (this.payload === 'none') {
      this.#end(process, 'the payload has ended')
      return
    }
    this.setPayload('frozen', 'dump')
    await this.#sim.delay(500)
    const isFrozen = this.isFrozen()
    if (fails || !isFrozen) {
      if (isFrozen) this.setPayload('running', 'the dump failed')
      this.#end(process, 'Error (criu/dump.c): the dump failed')
      return
    }
    this.#world.rules.dumped(this, process.checkpoint)
    reached.resolve(undefined)
    const word = await this.#atBarrier(process)
    if (!this.isFrozen()) return
    if (word === 'commit' && !keepRunning) this.rootEnded('dumped')
    else this.setPayload('running', word === 'commit' ? 'committed' : 'aborted')
    await this.#sim.delay(30)
    this.#end(process, word === 'commit' && !process.isFailing ? undefined : 'it ended with 1')
  }

  /** The engine as one daemon sees it. */
  engineFor(daemon: Daemon): Engine {
    const failed = ({ operation }: EngineProcess, why: string): StintError => new StintError(operation === 'dump' ? 'E_CRIU_DUMP_FAILED' : 'E_CRIU_RESTORE_FAILED', why)
    const prepared = (process: EngineProcess): PreparedDump => {
      const answer = async (word: 'commit' | 'abort'): Promise<void> => {
        await daemon.act(`engine ${word}`, () => { this.say(process, word) }, (fault) => {
          if (fault === 'fail' || fault === 'fail-after') process.isFailing = true // It has done what it was told, and says otherwise.
          return true
        })
        const failure = await daemon.wait(process.ended.promise)
        if (word === 'commit' && failure !== undefined) throw failed(process, failure)
      }
      return { commit: () => answer('commit'), abort: () => answer('abort') }
    }
    const atBarrier = (process: EngineProcess, reached: Promise<unknown>): { pid: number; prepared: Promise<PreparedDump> } => {
      const outcome = Promise.race([reached.then(() => 'reached' as const), process.ended.promise])
      return {
        pid: process.pid,
        prepared: daemon.wait(outcome).then((how) => {
          if (how !== 'reached') throw failed(process, how ?? 'ended')
          return prepared(process)
        }),
      }
    }
    return {
      name: 'criu',
      version: () => Promise.resolve('4.2.1'),
      unmended: () => Promise.resolve({ loaded: true, missing: [] }),
      startDump: async ({ directory, keepRunning }) => {
        const checkpoint = Number(directory.split('/')[1])
        const reached = Promise.withResolvers<undefined>()
        let fails = false
        const process = await daemon.act('engine dump', () => {
          const started = this.#start(daemon, 'dump', checkpoint)
          void this.#runDump(started, keepRunning, reached, fails)
          return started
        }, (fault) => fails = fault === 'fail' || fault === 'fail-after')
        return { ...atBarrier(process, reached.promise), stop: () => undefined }
      },
      forgetSizes: () => Promise.resolve(),
      identities: () => Promise.resolve([]), deletedNames: () => Promise.resolve([]),
      assertFits: () => daemon.act('engine fits', () => undefined),
      startRestore: async () => {
        const reached = Promise.withResolvers<undefined>()
        let fails = false
        const process = await daemon.act('engine restore', () => {
          this.#world.rules.restoreStarts(this)
          const started = this.#start(daemon, 'restore', 0)
          void this.#runRestore(started, reached, fails)
          return started
        }, (fault) => fails = fault === 'fail' || fault === 'fail-after')
        return atBarrier(process, reached.promise)
      },
      answerOrphan: async ({ pid, word, ended }: OrphanedEngine) => {
        await daemon.act('engine orphan', () => undefined)
        const process = this.engine
        if (process?.pid === pid) {
          process.daemon = daemon
          const look = (): void => {
            if (!daemon.isAlive || process.state === 'ended') return
            if (process.state === 'barrier') this.say(process, word)
            else this.#sim.after(50, look)
          }
          look()
        }
        await ended
      },
    }
  }

  async #runRestore(process: EngineProcess, reached: PromiseWithResolvers<undefined>, fails: boolean): Promise<void> {
    await this.#sim.delay(700)
    if (process.state === 'ended') return
    if (fails) {
      this.setPayload('none', 'the restore failed')
      this.#end(process, 'Error (criu/cr-restore.c): the restore failed')
      return
    }
    this.setPayload('restored', 'restore')
    reached.resolve(undefined)
    const word = await this.#atBarrier(process)
    if (this.payload !== 'restored') return
    this.setPayload(word === 'commit' ? 'running' : 'none', word === 'commit' ? 'committed' : 'aborted')
    await this.#sim.delay(30)
    this.#end(process, word === 'commit' && !process.isFailing ? undefined : 'it ended with 1')
  }

  /** SIGKILL to all below PID 1. @returns how many there were */
  killPayload(): number {
    const engine = this.engine?.operation === 'restore' && this.engine.state !== 'ended' ? this.engine : undefined
    const count = (this.payload === 'none' ? 0 : 1) + (engine === undefined ? 0 : 1)
    if (engine !== undefined) this.#end(engine, 'killed')
    if (this.payload !== 'none') this.setPayload('none', 'cleared')
    return count
  }
}
