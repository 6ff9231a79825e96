import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { freshSandbox, type Context, type Sandbox } from '../../daemon/context.ts'
import { PeerDaemons } from '../../daemon/cluster/peer-daemons.ts'
import { emptyBook } from '../../daemon/core/launch-book.ts'
import { imageContents } from '../../daemon/member/image-contents.ts'
import { look } from '../../daemon/member/looks.ts'
import { PostOffice } from '../../daemon/member/relay.ts'
import { Catalogue } from '../../daemon/catalogue/catalogue.ts'
import type { NewRun } from '../../daemon/catalogue/runs.ts'
import { Peers, peerSettings } from '../../daemon/cluster/peers.ts'
import { Budgets } from '../../daemon/core/budgets.ts'
import { resolveConfig } from '../../daemon/core/config.ts'
import type { Manifest } from '../../daemon/core/manifest.ts'
import { defaultOptions } from '../../daemon/core/options.ts'
import { noFaults } from '../../daemon/core/fault-points.ts'
import { systemClock } from '../../daemon/linux/clock.ts'
import { CommandRunner } from '../../daemon/linux/command.ts'
import { HeldProcess } from '../../daemon/linux/held-process.ts'
import { linux } from '../../daemon/linux/kernel.ts'
import { SandboxNetwork } from '../../daemon/linux/network.ts'
import { Segment } from '../../daemon/linux/segment.ts'
import { Users } from '../../daemon/linux/users.ts'
import { Sbatch } from '../../daemon/slurm/sbatch.ts'
import { Scontrol } from '../../daemon/slurm/scontrol.ts'
import { CpuRecord } from '../../plugins/engines/criu/cpuinfo.ts'
import { Squeue } from '../../daemon/slurm/squeue.ts'
import { CriuEngine } from '../../plugins/engines/criu/engine.ts'
import { PosixStore } from '../../plugins/stores/posix/store.ts'

export const alice = 1001

/** A manifest of alice's job 5. */
export const manifest: Manifest = {
  version: 1, run: 'r1', job: 5, uid: alice, gid: alice, user: 'alice', options: '', checkpoint: 1, trigger: 'request', keepRunning: false, member: 0, members: [0], hosts: ['n1'], nodes: ['n1'], network: null, launches: emptyBook,
  node: 'n1', restarts: 0, createdAt: 1000, hostname: 'n1', address: '100.64.1.65', rootPid: 1000, criuVersion: '4.2.1', kernel: '6.18', machine: 'x86_64', script: '/s',
  carried: [], seconds: 1, bytes: 1, files: [], history: [],
}

export interface TestContext extends AsyncDisposable {
  readonly context: Context
  /** For everything the test makes; every user may enter it. */
  readonly folder: string
  /** What the daemon logged. */
  readonly logged: Record<string, unknown>[]
  /** Puts a run of alice's on record. */
  readonly addRun: (job: number, change?: Partial<NewRun>) => void
  /** The same, with a live sandbox. */
  readonly addSandbox: (job: number) => Sandbox
}

/** A daemon's parts over real files in a temporary directory; scontrol is a script that prints `slurm` below the folder. */
export function makeContext(): TestContext {
  const folder = mkdtempSync(join(tmpdir(), 'stint-test-'))
  chmodSync(folder, 0o755)
  mkdirSync(join(folder, 'store'), { mode: 0o700 })
  const scontrol = join(folder, 'scontrol')
  writeFileSync(scontrol, `#!/bin/sh\nexec cat '${folder}/slurm'\n`, { mode: 0o755 })
  const missing = '/nonexistent/program'
  const config = resolveConfig({
    paths: { socket: join(folder, 's.sock'), peer_socket: join(folder, 'peer.sock'), sandbox_socket: join(folder, 'sandbox.sock'), run_dir: join(folder, 'run'), state_dir: join(folder, 'state'), libexec_dir: join(folder, 'libexec') },
    programs: { criu: missing, nsenter: missing, unshare: missing, setpriv: missing, ip: missing, bridge: missing, nft: missing, tar: missing, sbatch: missing, scontrol, squeue: missing },
    store: { path: join(folder, 'store') },
  })
  const logged: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => { logged.push(JSON.parse(line) as Record<string, unknown>) } })
  const commands = new CommandRunner(log)
  const catalogue = Catalogue.open(join(folder, 'state/catalogue.sqlite'), join(import.meta.dirname, '../../migrations'))
  const stopping = new AbortController()
  const peers = new Peers(peerSettings(config), log)
  const context: Context = {
    config, log, node: 'n1', version: '0.0.0', catalogue, commands, clock: systemClock, kernel: linux, contents: imageContents, criuVersion: '4.2.1', fault: noFaults, budgets: new Budgets(config.limits), sandboxes: new Map(), closing: new Set(), stopping: stopping.signal,
    scontrol: new Scontrol(commands, config.programs, 5),
    users: new Users(commands, '/usr/bin/getent'),
    sbatch: new Sbatch(commands, config.programs, 5),
    engine: new CriuEngine(commands, { ...config.programs, libexecDir: config.paths.libexec_dir }, new CpuRecord(commands, config.programs.criu, join(folder, 'cpu'))),
    squeue: new Squeue(commands, missing, 5),
    drain: { report: undefined },
    network: new SandboxNetwork(commands, config.programs, { pool: config.network.pool, mtu: config.network.mtu, vxlanPort: config.network.vxlan_port }),
    segment: new Segment(commands, config.programs, config.network.pool),
    store: new PosixStore(config.store.path), keyring: { current: () => [], fault: undefined },
    look: async (...args) => look({ config, log, commands, node: 'n1' }, ...args),
    health: () => ({ loopDelay: { p50: 0, p99: 0, max: 0, maxSinceStart: 0 }, looks: { running: 0, waiting: 0 } }),
    peers, announced: new Map(), expected: new Map(), cluster: new PeerDaemons(peers, { checkpointSeconds: 5, restoreSeconds: 5 }, (node) => Promise.resolve(node)), postOffice: (...args) => new PostOffice(...args),
  }
  const addRun = (job: number, change: Partial<NewRun> = {}): void => {
    catalogue.runs.upsert({
      id: `run-${job}`, job_id: job, uid: alice, gid: alice, user: 'alice', options: '', hostname: 'n1', address: '100.64.1.65', script: '/x', outputs: '[]', history: '[]', created_at: job * 1000,
      hosts: '["n1"]', network: null, launches: JSON.stringify(emptyBook), ...change,
    })
  }
  const addSandbox = (job: number): Sandbox => {
    addRun(job)
    const run = catalogue.runs.get(`run-${job}`)
    if (run === undefined) throw new Error('no run')
    const { id } = catalogue.members.insert({
      run_id: run.id, member: 0, restarts: 1, node: 'n1', state: 'opening', guard_pid: 1, guard_start: 1, boot: '', payload_cgroup: '/c', end_time: 99_000, restore_from: null, opened_at: 1, nodes: '["n1"]', coordinator: null,
    })
    catalogue.members.move(id, 'running', 1)
    const sandbox: Sandbox = { memberId: id, run, options: defaultOptions, restarts: 1, pid1: HeldProcess.open(process.pid), guard: HeldProcess.open(1, 1), link: undefined, member: 0, hosts: ['n1'], nodes: ['n1'], network: undefined, coordinator: undefined, ...freshSandbox(), requeue: true }
    context.sandboxes.set(job, sandbox)
    return sandbox
  }
  return {
    context, folder, logged, addRun, addSandbox,
    [Symbol.asyncDispose]: async () => {
      stopping.abort()
      context.peers[Symbol.dispose]()
      catalogue[Symbol.dispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
