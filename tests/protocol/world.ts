import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Catalogue } from '../../daemon/catalogue/catalogue.ts'
import type { Checkpoint } from '../../daemon/catalogue/checkpoints.ts'
import { migrate, readMigrations } from '../../daemon/catalogue/database.ts'
import type { Config } from '../../daemon/core/config.ts'
import { resolveConfig } from '../../daemon/core/config.ts'
import { emptyBook } from '../../daemon/core/launch-book.ts'
import type { MemberState } from '../../daemon/core/states.ts'
import { Daemon } from './daemon.ts'
import { Machine } from './machine.ts'
import { Rules } from './rules.ts'
import { Simulation, type Schedule } from './simulation.ts'
import { Slurm } from './slurm.ts'
import { Store } from './store.ts'

const migrations = join(import.meta.dirname, '../../migrations')
const runId = 'run'

interface Node {
  readonly catalogue: Catalogue
  readonly clear: () => void
}

/** A catalogue in memory, used by one world after the other. */
function makeNode(): Node {
  const db = new Database(':memory:')
  db.pragma('foreign_keys = ON')
  migrate(db, readMigrations(migrations))
  db.exec('DROP TRIGGER audit_is_kept')
  const prepare = db.prepare.bind(db)
  const known = new Map<string, Database.Statement>()
  db.prepare = ((sql: string) => {
    const statement = known.get(sql) ?? prepare(sql)
    known.set(sql, statement)
    return statement
  }) as typeof db.prepare
  const clearing = ['events', 'images', 'checkpoints', 'members', 'runs', 'throughput', 'audit'].map((table) => prepare(`DELETE FROM ${table}`))
  return { catalogue: new Catalogue(db), clear: db.transaction(() => { for (const statement of clearing) statement.run() }) }
}

const spare: Node[] = []
let config: Config | undefined

/** What a schedule is played on. */
export interface Setting {
  readonly members: number
  /** The members' state at the beginning: a run that lives, or one that is about to be restored. */
  readonly state: Extract<MemberState, 'running' | 'restoring'>
}

/** Nodes, Slurm, store and the network between them, for one run of one job. */
export class World implements Disposable {
  readonly sim: Simulation
  readonly slurm: Slurm
  readonly store = new Store()
  readonly rules: Rules
  readonly machines: readonly Machine[]
  readonly nodes: ReadonlyMap<string, Node>
  readonly config: Config
  readonly jobId = 5
  /** Nobody on the machine that this is played on: the kernel is asked for keys of the job's owner. */
  readonly uid = 4_000_000
  readonly isRestoring: boolean
  partition = ['n1', 'n2', 'n3']
  /** Daemons that are to start again. */
  #starting = 0

  constructor(schedule: Schedule, { members, state }: Setting, isTraced = false) {
    config ??= resolveConfig({ paths: { run_dir: '/nonexistent/run', state_dir: '/nonexistent/state' }, slurm: { look_seconds: 3600 } })
    this.config = config
    this.sim = new Simulation(schedule, isTraced)
    this.slurm = new Slurm(this)
    this.isRestoring = state === 'restoring'
    this.rules = new Rules(this)
    this.machines = Array.from({ length: members }, (_, member) => new Machine(this, member))
    this.nodes = new Map(this.machines.map(({ node }) => [node, spare.pop() ?? makeNode()]))
    Date.now = () => Math.floor(this.sim.now)
    if (state === 'restoring') this.slurm.restarts = 1
    for (const machine of this.machines) {
      if (state === 'restoring') machine.payload = 'none'
      if (state === 'restoring') machine.gate = 'shut'
      this.#register(machine, state)
    }
  }

  /** A sandbox as an earlier life of the daemon has opened it. */
  #register({ node, member, guardPid, pid1 }: Machine, state: MemberState): void {
    const catalogue = this.#catalogue(node)
    const hosts = JSON.stringify(this.machines.map((machine) => machine.node))
    catalogue.runs.upsert({
      id: runId, job_id: this.jobId, uid: this.uid, gid: this.uid, user: 'alice', options: '', hostname: node, address: '', script: '', outputs: '[]', history: '[]', created_at: 1, hosts,
      network: this.machines.length === 1 ? null : JSON.stringify({ vni: 1, prefix: '100.64.1.64/26', encapsulation: 'vxlan' }), launches: JSON.stringify(emptyBook),
    })
    const { id } = catalogue.members.insert({
      run_id: runId, member, restarts: this.slurm.restarts, node, state: 'opening', guard_pid: guardPid, guard_start: guardPid, boot: '', payload_cgroup: '', end_time: null, restore_from: null, opened_at: this.sim.now,
      nodes: hosts, coordinator: member === 0 ? null : 'n1',
    })
    catalogue.members.setPid1(id, pid1, pid1)
    catalogue.members.move(id, state, this.sim.now)
    if (member === 0) catalogue.members.setOthers(id, this.machines.slice(1).map((other) => ({ member: other.member, node: other.node, srunPid: 300 + other.member, srunStart: 300 + other.member })))
  }

  #catalogue(node: string): Catalogue {
    const found = this.nodes.get(node)
    if (found === undefined) throw new Error(`no node ${node}`)
    return found.catalogue
  }

  /** An earlier stint has left a checkpoint. */
  save(number: number): void {
    const members = this.machines.map(({ member }) => member)
    this.store.published.set(number, new Map(members.map((member) => [member, {
      version: 1, run: runId, job: this.jobId, uid: this.uid, gid: this.uid, user: 'alice', options: '', checkpoint: number, trigger: 'request', keepRunning: false, member, members, hosts: [], nodes: [], network: null,
      launches: emptyBook, node: 'n1', restarts: 0, createdAt: number, hostname: 'n1', address: '', rootPid: 1000, criuVersion: '4.2.1', kernel: '', machine: '', script: '', carried: [], seconds: 1, bytes: 1, files: [], history: [],
    }])))
  }

  /** What the coordinator has on record of its checkpoints. */
  rows(): Checkpoint[] {
    return this.#catalogue('n1').checkpoints.ofRun(runId)
  }

  isResumeDecided(): boolean {
    return this.#catalogue('n1').members.ofRun(runId).some((member) => member.resume_decided === 1)
  }

  get coordinator(): Machine {
    const [first] = this.machines
    if (first === undefined) throw new Error('no members')
    return first
  }

  boot(): void {
    for (const machine of this.machines) this.#start(machine)
  }

  #start(machine: Machine): void {
    const daemon = new Daemon(this, machine)
    machine.daemon = daemon
    daemon.start()
  }

  /** Systemd starts it again, mostly at once, sometimes after what waited for it has given up. */
  daemonDied(daemon: Daemon): void {
    const { machine } = daemon
    machine.daemon = undefined
    if (machine.engine?.daemon === daemon) machine.engine.daemon = undefined
    this.#starting++
    this.sim.after(1, () => { daemon.mourn() })
    this.sim.after(this.sim.random() < 0.8 ? 200 + this.sim.random() * 3000 : this.sim.random() * 100_000, () => {
      this.#starting--
      this.#start(machine)
    })
  }

  guardEnded({ member }: Machine): void {
    if (member === 0) this.slurm.batchEnded()
  }

  /** A checkpoint was given up, and everybody could be told: nobody waits until it asks by itself. */
  assertRunning(): void {
    const waiting = this.machines.filter(({ payload, gate, isGuardAlive }) => isGuardAlive && (payload === 'frozen' || gate === 'shut'))
    if (waiting.length > 0) this.sim.violate(`${waiting.map(({ node }) => node).join(', ')} was not told to go on`)
  }

  /** Whether nobody has anything to do any more. */
  isQuiet(): boolean {
    return this.#starting === 0 && this.machines.every(({ daemon }) => daemon?.isAlive === true && daemon.pending === 0 && [...daemon.context.sandboxes.values()].every((sandbox) => !sandbox.busy)) && (this.#isOver() || this.#isHealthy())
  }

  #isOver(): boolean {
    return this.slurm.state !== 'RUNNING' && this.machines.every(({ node, isGuardAlive, daemon }) => !isGuardAlive && daemon?.context.sandboxes.size === 0 && this.#catalogue(node).members.alive().length === 0)
  }

  #isHealthy(): boolean {
    return this.slurm.state === 'RUNNING' && this.machines.every((machine) => {
      const { payload, gate, isHeld, engine, daemon } = machine
      const sandbox = daemon?.context.sandboxes.get(this.jobId)
      return payload === 'running' && gate === 'open' && !isHeld && (engine === undefined || engine.state === 'ended') && sandbox !== undefined && (sandbox.dump === undefined || this.#isLeftBehind(machine))
    })
  }

  /** A member's part of a checkpoint that the job has run on after, of whose end it was not told: the next checkpoint drops it. */
  #isLeftBehind({ node, daemon }: Machine): boolean {
    const dump = daemon?.context.sandboxes.get(this.jobId)?.dump
    const row = dump === undefined ? undefined : this.#catalogue(node).checkpoints.require(dump.row.id)
    return row !== undefined && row.keep_running === 1 && row.decision === 'commit'
  }

  /** When all is quiet: what must be so, and that nothing is left over. */
  async settle(): Promise<void> {
    // A fault may still strike in the time that alarms have to go off.
    for (let faults = 0; faults < 3; faults++) {
      await this.sim.run(900_000, () => this.isQuiet())
      await this.sim.run(6000, () => false)
      if (this.isQuiet()) break
    }
    if (!this.isQuiet()) this.sim.violate(`it does not come to rest: ${this.#describe()}`)
    this.#checkEnd()
    this.#checkLeaks()
  }

  #describe(): string {
    return JSON.stringify({
      slurm: this.slurm.state, starting: this.#starting,
      machines: this.machines.map(({ node, payload, gate, isHeld, isGuardAlive, engine, daemon }) => [
        node, payload, gate, isHeld ? 'held' : '', isGuardAlive ? '' : 'no monitor', engine?.state, daemon?.pending, [...(daemon?.context.sandboxes.values() ?? [])].map(({ busy, dump }) => `${busy ? 'busy' : 'idle'} ${dump?.row.number ?? ''}`).join(),
      ].join(' ')),
    })
  }

  #checkEnd(): void {
    const { state } = this.slurm
    if (state === 'RUNNING' && !this.#isHealthy()) this.sim.violate(`the job does not run on everywhere: ${this.#describe()}`)
    if (state === 'PENDING' && !this.slurm.isHeld && !this.isRestoring) {
      const number = this.rules.savedAs ?? 0
      if (!this.store.isWhole(number, this.machines.length)) this.sim.violate('the job waits in the queue without a checkpoint')
      if (this.rows().find((row) => row.number === number)?.requeued !== 1) this.sim.violate('the requeue is not on record')
    }
    const given = this.rows().filter(({ number, phase }) => phase === 'dropped' && this.store.published.has(number))
    if (given.length > 0) this.sim.violate(`given up, and still in the store: ${given.map(({ number }) => number).join(', ')}`)
    if (state === 'COMPLETED' || state === 'TIMEOUT') this.sim.violate(`the job is lost: ${state}`)
  }

  #checkLeaks(): void {
    if (this.store.unfinished.size > 0 && !this.store.isAway) this.sim.violate(`left in the store: unfinished ${[...this.store.unfinished.keys()].join(', ')}`)
    for (const { node, daemon, member, isGuardAlive } of this.machines) {
      const timers = daemon?.timers.size ?? 0
      if (timers > (member === 0 && isGuardAlive ? this.machines.length + (this.isRestoring ? 1 : 0) : 0)) this.sim.violate(`${node}: ${timers} timers are left`)
      const open = this.#catalogue(node).checkpoints.ofRun(runId).filter((row) => row.phase !== 'dropped' && row.requeued === 0 && (row.keep_running === 0 || row.phase !== 'sealed'))
      if (open.length > 0 && member === 0) this.sim.violate(`${node}: on record as open: ${open.map((row) => `${row.number} ${row.phase} ${row.decision}`).join(', ')}`)
      const alive = this.#catalogue(node).members.alive()
      if (alive.length > (isGuardAlive ? 1 : 0)) this.sim.violate(`${node}: members on record that have ended`)
      if (this.slurm.state === 'RUNNING' && alive.some((row) => row.state !== 'running')) this.sim.violate(`${node}: on record as ${alive.map((row) => row.state).join()}`)
    }
  }

  [Symbol.dispose](): void {
    for (const node of this.nodes.values()) {
      node.clear()
      spare.push(node)
    }
  }
}
