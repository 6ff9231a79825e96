import type { Logger } from 'pino'
import type { Catalogue } from '../../daemon/catalogue/catalogue.ts'
import { PeerDaemons } from '../../daemon/cluster/peer-daemons.ts'
import type { Peers } from '../../daemon/cluster/peers.ts'
import { peerError } from '../../daemon/cluster/peer-error.ts'
import type { Context, ImageContents } from '../../daemon/context.ts'
import { Budgets } from '../../daemon/core/budgets.ts'
import { StintError, asStintError } from '../../daemon/core/errors.ts'
import type { FaultHook } from '../../daemon/core/fault-points.ts'
import { decodeLine, encodeLine, type Message } from '../../daemon/core/wire.ts'
import type { Api } from '../../daemon/http/api.ts'
import { addMemberRoutes } from '../../daemon/http/routes/members.ts'
import type { Clock } from '../../daemon/linux/clock.ts'
import type { HeldProcess } from '../../daemon/linux/held-process.ts'
import type { Kernel } from '../../daemon/linux/kernel.ts'
import type { SandboxNetwork } from '../../daemon/linux/network.ts'
import type { ProcessStat } from '../../daemon/linux/processes.ts'
import type { GuardLink } from '../../daemon/member/monitor-connection.ts'
import type { PostOffice } from '../../daemon/member/relay.ts'
import { answerHook } from '../../daemon/node/hooks.ts'
import { attachGuard, closeEndedSandboxes } from '../../daemon/node/recover.ts'
import type { Machine } from './machine.ts'
import { never, type FaultKind } from './simulation.ts'
import type { World } from './world.ts'

/** Thrown at whatever a daemon does after its death: nothing of it reaches the world. */
class Dead extends Error {}

/** Milliseconds that a step takes at most before its effect, and again after it. */
const stepMs = 20
/** The same of a step that is slow, and how much. */
const slowMs = 60_000
/** A connection over which nothing comes is given up after so long (cluster.dead_after_seconds). */
const lostMs = 15_000

/** The plugin's connection, as the daemon sees it. */
class Link {
  readonly peer = { uid: 0, gid: 0, pid: 0 }
  onMessage: ((message: Message) => void) | undefined
  onClose: (() => void) | undefined
  open = true
  readonly process: HeldProcess
  readonly #daemon: Daemon
  readonly #waiting = new Map<string, (message: Message | undefined) => void>()

  constructor(daemon: Daemon) {
    this.#daemon = daemon
    this.process = daemon.held(daemon.machine.guardPid)
  }

  send(verb: string): void {
    this.#daemon.touch(`say ${verb}`)
    if (this.open) this.#daemon.world.sim.after(1, () => { this.#daemon.machine.command(verb) })
  }

  /** From the monitor. */
  hear(verb: string, words: Parameters<typeof encodeLine>[1] = {}): void {
    this.#daemon.world.sim.after(1, () => {
      if (!this.#daemon.isAlive || !this.open) return
      const message = decodeLine(encodeLine(verb, words).trimEnd())
      if (message === undefined) return
      const waiter = this.#waiting.get(verb)
      this.#waiting.delete(verb)
      if (waiter === undefined) this.onMessage?.(message)
      else waiter(message)
    })
  }

  async expect(verb: string, seconds: number): Promise<Message> {
    const { promise, resolve } = Promise.withResolvers<Message | undefined>()
    this.#waiting.set(verb, resolve)
    const timer = this.#daemon.world.sim.after(seconds * 1000, () => { resolve(undefined) })
    const message = await this.#daemon.wait(promise)
    timer[Symbol.dispose]()
    this.#waiting.delete(verb)
    if (message === undefined) throw new StintError('E_NOT_RUNNING', `the sandbox did not say "${verb}"`)
    return message
  }

  lose(): void {
    this.#daemon.world.sim.after(1, () => {
      if (!this.open) return
      this.open = false
      for (const resolve of this.#waiting.values()) resolve(undefined)
      if (this.#daemon.isAlive) this.onClose?.()
    })
  }

  close(): void {
    this.open = false
  }
}

type Handler = (request: { params: { job: number }; body: unknown }) => Promise<unknown>

/** One life of stintd on one node: the real coordinator and participant over a simulated world, until it dies. */
export class Daemon {
  readonly world: World
  readonly machine: Machine
  readonly node: string
  readonly context: Context
  isAlive = true
  link: Link | undefined
  /** Waits and alarms under way. */
  readonly timers = new Set<object>()
  /** Steps under way. */
  pending = 0
  /** What other daemons may ask for, by the last part of its path. */
  readonly #routes = new Map<string, Handler>()

  constructor(world: World, machine: Machine) {
    this.world = world
    this.machine = machine
    this.node = machine.node
    this.context = this.#makeContext()
    const api = { post: (path: string, _: unknown, handler: Handler) => { this.#routes.set(path.slice(path.lastIndexOf('/') + 1), handler) }, get: () => undefined }
    addMemberRoutes(api as unknown as Api, this.context)
  }

  /** The start as boot.ts has it; a monitor that lives comes back within a second. */
  start(): void {
    const { sim } = this.world
    sim.note(`${this.node}: daemon starts`)
    this.guard('start', () => {
      this.context.store.removeUnfinished()
      closeEndedSandboxes(this.context)
    })
    if (!this.machine.isGuardAlive) return
    sim.after(sim.random() * 1000, () => {
      if (!this.isAlive || !this.machine.isGuardAlive) return
      const link = new Link(this)
      this.link = link
      const message = decodeLine(encodeLine('attach', { job: this.world.jobId }).trimEnd())
      if (message !== undefined) void this.background(attachGuard(this.context, link as unknown as GuardLink, message), 'attach')
    })
  }

  /** A hook of Slurm. */
  hear(hook: 'epilog'): void {
    const message = decodeLine(encodeLine(hook, { job: this.world.jobId }).trimEnd())
    if (message !== undefined) void this.background(answerHook(this.context, message), hook)
  }

  die(): void {
    if (!this.isAlive) return
    const { sim } = this.world
    sim.note(`${this.node}: daemon dies`)
    this.isAlive = false
    this.world.daemonDied(this)
  }

  /** @throws Dead */
  assertAlive(): void {
    if (!this.isAlive) throw new Dead('dead')
  }

  /** Work that nobody waits for: what it throws while the daemon lives is a fault of ours. */
  async background(work: Promise<unknown>, what: string): Promise<void> {
    this.pending++
    try {
      await work
    } catch (error) {
      if (this.isAlive) this.world.sim.violate(`${this.node}: ${what} threw ${asStintError(error).message}`)
    } finally {
      this.pending--
    }
  }

  guard(what: string, work: () => void): void {
    try {
      work()
    } catch (error) {
      if (this.isAlive) this.world.sim.violate(`${this.node}: ${what} threw ${asStintError(error).message}`)
    }
  }

  /** A step without a wait: what follows it happens at once, or never. @throws Dead */
  touch(what: string): void {
    this.assertAlive()
    const fault = this.world.sim.step(`${this.node}: ${what}`)
    if (fault !== 'die-before' && fault !== 'die-after') return
    this.die()
    throw new Dead('dead')
  }

  /** @returns what comes, or never once the daemon has died */
  async wait<T>(promise: Promise<T>): Promise<T> {
    const value = await promise
    return this.isAlive ? value : never
  }

  /**
   * A step that takes its time.
   * @param takes whether a fault is the step's own to deal with: it has its effect then
   * @param failure what is thrown when it fails
   */
  async act<T>(what: string, effect: () => T, takes: (fault: FaultKind | undefined) => boolean = () => false, failure: () => StintError = () => new StintError('E_COMMAND_FAILED', `${what} failed`)): Promise<T> {
    this.assertAlive()
    const { sim } = this.world
    const fault = sim.step(`${this.node}: ${what}`)
    if (fault === 'die-before') {
      this.die()
      return never
    }
    const isTaken = takes(fault)
    this.pending++
    await sim.delay(fault === 'slow' ? slowMs : stepMs)
    // What was started goes on without its daemon, or had not begun.
    if (!this.isAlive && sim.random() < 0.5) return never
    if (fault === 'fail' && !isTaken) {
      this.pending--
      throw failure()
    }
    let value: T
    try {
      value = effect()
    } catch (error) {
      this.pending--
      throw error
    }
    if (fault === 'die-after') this.die()
    await sim.delay(stepMs)
    this.pending--
    if (!this.isAlive) return never
    if (fault === 'fail-after' && !isTaken) throw failure()
    return value
  }

  /** A process on this node, as HeldProcess has it. */
  held(pid: number): HeldProcess {
    const { machine } = this
    const process: Partial<HeldProcess> & { pid: number } = {
      pid, proc: `/nonexistent/${pid}`,
      get isAlive() { return machine.isAlive(pid) },
      stat: () => (machine.isAlive(pid) ? statOf(pid) : undefined),
      release: () => undefined, signal: () => undefined, enter: () => [],
      [Symbol.dispose]: () => undefined,
    }
    return process as HeldProcess
  }

  /** A request to another daemon: may be lost, delayed, doubled; its answer, too. */
  async #request(node: string, verb: string, job: number, body: unknown, seconds: number): Promise<unknown> {
    this.assertAlive()
    const { sim } = this.world
    const fault = sim.step(`${this.node}: ${verb} -> ${node}`)
    if (fault === 'die-before') {
      this.die()
      return never
    }
    const answer = Promise.withResolvers<unknown>()
    const lost = (): void => { answer.reject(peerError(node, `no answer to ${verb}`, { sent: true })) }
    const timer = sim.after(Math.min(seconds * 1000, fault === 'lose' || fault === 'lose-answer' ? lostMs : Infinity), lost)
    // Whoever gives a request up closes its channel: what has not arrived by then never does.
    const deliver = (isAnswered: boolean, milliseconds: number): void => {
      sim.after(sim.random() * Math.min(milliseconds, seconds * 1000), () => { void this.#deliver(node, verb, job, body, isAnswered ? answer : undefined) })
    }
    if (fault === 'fail') sim.after(stepMs, () => { answer.reject(peerError(node, 'Connection refused', { passing: true })) })
    else if (fault !== 'lose') deliver(fault !== 'lose-answer', fault === 'slow' ? slowMs : stepMs)
    // `clear` has nothing that tells one try to restore from the next: see README.md.
    if (fault === 'double') deliver(false, verb === 'clear' ? stepMs : slowMs)
    if (fault === 'die-after') sim.after(sim.random() * 2 * stepMs, () => { this.die() })
    this.pending++
    try {
      return await this.wait(answer.promise)
    } finally {
      timer[Symbol.dispose]()
      this.pending--
    }
  }

  async #deliver(node: string, verb: string, job: number, body: unknown, answer: PromiseWithResolvers<unknown> | undefined): Promise<void> {
    const { sim } = this.world
    const there = this.world.machines.find((machine) => machine.node === node)?.daemon
    if (there?.isAlive !== true) {
      answer?.reject(peerError(node, 'Connection refused', { passing: true }))
      return
    }
    there.onDeath(() => { answer?.reject(peerError(node, `the connection ended before the answer to ${verb}`, { sent: true })) })
    try {
      const value = await there.answer(verb, job, body)
      await sim.delay(stepMs)
      answer?.resolve(value)
    } catch (error) {
      await sim.delay(stepMs)
      if (there.isGone()) return
      const { code, message, hint } = asStintError(error)
      sim.note(`${node}: ${verb} refused: ${code} ${message}`)
      answer?.reject(new StintError(code, message, { hint }))
    }
  }

  isGone(): boolean {
    return !this.isAlive
  }

  readonly #mourners = new Set<() => void>()

  onDeath(act: () => void): void {
    this.#mourners.add(act)
  }

  /** Whoever had a connection to it learns of its end. */
  mourn(): void {
    for (const act of this.#mourners) act()
    this.#mourners.clear()
  }

  async answer(verb: string, job: number, body: unknown): Promise<unknown> {
    this.pending++
    try {
      const handler = this.#routes.get(verb)
      if (handler === undefined) throw new StintError('E_INTERNAL', `no route ${verb}`)
      return await this.wait(handler({ params: { job }, body }))
    } finally {
      this.pending--
    }
  }

  #clock(): Clock {
    const { sim } = this.world
    const after = (milliseconds: number, act: () => void): Disposable => {
      this.assertAlive()
      const timer = sim.after(milliseconds, () => {
        this.timers.delete(timer)
        if (this.isAlive) act()
      })
      this.timers.add(timer)
      return { [Symbol.dispose]: () => {
        this.timers.delete(timer)
        timer[Symbol.dispose]()
      } }
    }
    return {
      after,
      sleep: (milliseconds, signal) => new Promise((resolve, reject) => {
        const stop = (): void => {
          timer[Symbol.dispose]()
          reject(asStintError(signal?.reason))
        }
        const timer = after(milliseconds, () => {
          signal?.removeEventListener('abort', stop)
          resolve()
        })
        signal?.addEventListener('abort', stop)
      }),
      timeout: (milliseconds) => {
        const controller = new AbortController()
        sim.after(milliseconds, () => { if (this.isAlive) controller.abort(new Error('late')) })
        return controller.signal
      },
    }
  }

  #kernel(): Kernel {
    const { machine } = this
    const ask = <T>(value: () => T): T => {
      this.assertAlive()
      return value()
    }
    return {
      hold: (pid) => this.held(pid),
      isAlive: (pid) => ask(() => machine.isAlive(pid)),
      processStat: (pid) => ask(() => (machine.isAlive(pid) ? statOf(pid) : undefined)),
      rootAlive: () => ask(() => machine.payload !== 'none'),
      payloadGroups: () => [],
      enginesIn: () => this.act('look for engines', () => (machine.engine !== undefined && machine.engine.state !== 'ended' ? [statOf(machine.engine.pid)] : [])),
      killPayload: () => this.act('kill', () => machine.killPayload()),
      cgroupPlaces: () => [], isFrozen: () => false, memoryInUse: () => undefined, memoryLimit: () => ({ memory: undefined, withSwap: undefined }), nodeSwapBytes: () => 0,
      removePayloadCgroup: () => true, removeStepRemains: () => undefined,
    }
  }

  #network(): SandboxNetwork {
    const { machine } = this
    const network: Partial<SandboxNetwork> = {
      adopt: () => undefined,
      shutGate: () => this.act('shut gate', () => { machine.setGate('shut') }),
      openGate: () => this.act('open gate', () => { machine.setGate('open') }),
      silence: () => this.act('silence', () => undefined),
      endSilence: () => this.act('end silence', () => undefined),
      disconnect: () => this.act('disconnect', () => undefined),
    }
    return network as SandboxNetwork
  }

  #contents(): ImageContents {
    const step = (what: string) => () => this.act(what, () => undefined)
    return {
      recordFrozen: step('record frozen'), recordFiles: () => this.act('record files', () => 0), bytesBelow: () => this.act('bytes', () => 1), assertWithinRoom: () => Promise.resolve(),
      assertNotForged: step('not forged'), putIn: step('put in'), putBackLedger: step('ledger'), assertSame: step('same'),
    }
  }

  /** The catalogue outlives the daemon; a dead one writes nothing into it. */
  #catalogue(): Catalogue {
    const { catalogue } = this.world.nodes.get(this.node) ?? {}
    if (catalogue === undefined) throw new Error('no such node')
    const guarded = <R extends object>(repository: R, name: string): R => {
      const made: Record<string, unknown> = {}
      for (const key of Object.getOwnPropertyNames(Object.getPrototypeOf(repository)).filter((one) => one !== 'constructor')) {
        const method = (repository as Record<string, (...args: unknown[]) => unknown>)[key]
        const isRead = /^(require|ofRun|ofCheckpoint|alive|get|newestOfJob|list|withoutSandbox|launches|recent|highestNumber)$/.test(key)
        made[key] = (...args: unknown[]) => {
          if (isRead) this.assertAlive()
          else this.touch(`${name}.${key}`)
          return method?.apply(repository, args)
        }
      }
      return made as R
    }
    const made: Partial<Catalogue> = {
      runs: guarded(catalogue.runs, 'runs'), members: guarded(catalogue.members, 'members'), checkpoints: guarded(catalogue.checkpoints, 'checkpoints'), images: guarded(catalogue.images, 'images'),
      events: guarded(catalogue.events, 'events'), throughput: guarded(catalogue.throughput, 'throughput'), audit: guarded(catalogue.audit, 'audit'),
      transaction: (work) => {
        this.assertAlive()
        return catalogue.transaction(work)
      },
      withoutFlush: (work) => work(),
    }
    return made as Catalogue
  }

  #log(): Logger {
    const { sim } = this.world
    const at = (level: string) => (what: { err?: unknown } | string, text = '') => {
      if (!this.isAlive) return
      const error = typeof what === 'string' || what.err === undefined ? undefined : asStintError(what.err)
      if (error?.code === 'E_INTERNAL' && /illegal|not in the catalogue|UNIQUE|undefined/.test(error.message)) sim.violate(`${this.node}: ${text}: ${error.message}`)
      if (sim.isTraced) sim.note(`${this.node}: ${level}: ${text} ${error === undefined ? '' : `${error.code} ${error.message}`}`)
    }
    return { debug: () => undefined, info: at('info'), warn: at('warn'), error: at('error') } as unknown as Logger
  }

  #postOffice(): PostOffice {
    const office: Partial<PostOffice> = {
      open: () => this.act('open post', () => undefined), shut: () => this.act('shut post', () => undefined), [Symbol.asyncDispose]: () => Promise.resolve(),
    }
    return office as PostOffice
  }

  #makeContext(): Context {
    const { world, machine, node } = this
    const peers: Partial<Peers> = {
      request: async <T>(to: string, _: string, path: string, body?: unknown, options?: { timeoutSeconds?: number }) => {
        const [, , , , job, verb = ''] = path.split('/')
        return (await this.#request(to, verb, Number(job), body, options?.timeoutSeconds ?? 10)) as T
      },
      hello: async (to) => {
        await this.act(`hello -> ${to}`, () => {
          if (world.machines.find((other) => other.node === to)?.daemon?.isAlive !== true) throw peerError(to, 'Connection refused', { passing: true })
        })
        return { keys: [], node: to, version: '' }
      },
    }
    const { config } = world
    const objects = { processes: 1, threads: 1, files: 0, mappings: 1, connections: 0, copies: 0 }
    const answers = {
      preflight: { obstacles: [], carried: [], processes: 1, bytes: 1e6, cloned: 0, objects, noticing: false },
      frozen: { lost: undefined, obstacles: [], notes: [], carried: [], watchesTrees: false, living: [], readFiles: [], plan: [], objects, entries: new Uint8Array() },
    }
    const fault: FaultHook = () => undefined
    const parts: Partial<Context> = {
      config, node, version: '0', criuVersion: '4.2.1', fault, log: this.#log(), catalogue: this.#catalogue(), clock: this.#clock(), kernel: this.#kernel(), contents: this.#contents(), network: this.#network(),
      scontrol: world.slurm.scontrolFor(this), engine: machine.engineFor(this), store: world.store.for(this), stopping: new AbortController().signal, peers: peers as Peers,
      cluster: new PeerDaemons(peers as Peers, { checkpointSeconds: config.checkpoint.timeout_seconds, restoreSeconds: config.restore.timeout_seconds }, (name) => Promise.resolve(name)),
      look: ((kind: 'preflight' | 'frozen') => this.act(`look ${kind}`, () => answers[kind])) as unknown as Context['look'],
      users: { groupsOf: () => this.act('groups', () => []) } as unknown as Context['users'],
      commands: { startDetached: () => { throw new StintError('E_SLURM', 'srun: Unable to create step') } } as unknown as Context['commands'],
      postOffice: () => this.#postOffice(), budgets: new Budgets(config.limits), sandboxes: new Map(), closing: new Set(), announced: new Map(), expected: new Map(), drain: { report: undefined },
    }
    return parts as Context
  }
}

function statOf(pid: number): ProcessStat {
  return { pid, comm: '', state: 'S', parent: 1, startTime: pid }
}
