import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { schedule } from 'node-cron'
import type { Logger } from 'pino'
import { CpuRecord } from '../plugins/engines/criu/cpuinfo.ts'
import { CriuEngine } from '../plugins/engines/criu/engine.ts'
import { PosixStore } from '../plugins/stores/posix/store.ts'
import type { Context } from './context.ts'
import { watchDrain } from './node/drain.ts'
import { reclaimQuietly } from './images/prune.ts'
import { closeEndedSandboxes } from './node/recover.ts'
import { watchWaiting } from './node/waiting.ts'
import { Keyring } from './key-file.ts'
import { Catalogue } from './catalogue/catalogue.ts'
import { PeerDaemons } from './cluster/peer-daemons.ts'
import { Peers, peerSettings } from './cluster/peers.ts'
import { Budgets } from './core/budgets.ts'
import { cataloguePath, type Config } from './core/config.ts'
import { noFaults, parseFault, type FaultHook } from './core/fault-points.ts'
import { servePeerApi } from './http/peer-api.ts'
import { serveRestApi } from './http/rest-api.ts'
import { systemClock } from './linux/clock.ts'
import { CommandRunner } from './linux/command.ts'
import { withoutCoreDumps } from './linux/core-dumps.ts'
import { EventLoopMonitor } from './linux/event-loop.ts'
import { bootId } from './linux/held-process.ts'
import { linux } from './linux/kernel.ts'
import { makeLog } from './linux/log.ts'
import { SandboxNetwork } from './linux/network.ts'
import { Segment } from './linux/segment.ts'
import { nodeName } from './linux/node-name.ts'
import { Users } from './linux/users.ts'
import { keepWatchdog, notifyServiceManager } from './linux/service-manager.ts'
import { imageContents } from './member/image-contents.ts'
import { LookPool } from './member/look-pool.ts'
import { PostOffice } from './member/relay.ts'
import { serveSandboxes } from './node/plugin-socket.ts'
import { Sbatch } from './slurm/sbatch.ts'
import { Scontrol } from './slurm/scontrol.ts'
import { Squeue } from './slurm/squeue.ts'
import { versionOfStint } from './version.ts'

/** The hook of core/fault-points.ts as the environment asks for it. */
function faultHook(log: Logger): FaultHook {
  const fault = parseFault(process.env['STINT_FAULT'])
  if (fault === undefined) return noFaults
  return (point) => {
    if (point !== fault.point) return
    try {
      closeSync(openSync(fault.onceFile, 'wx'))
    } catch {
      return // Fired before.
    }
    log.warn({ point }, 'ending here as asked by STINT_FAULT')
    process.kill(process.pid, 'SIGKILL')
  }
}

/** Once a day, at a minute of this node's own: not all nodes ask slurmctld at once. */
function reclaimDaily(context: Context): Disposable {
  const minute = Buffer.from(context.node).reduce((sum, byte) => (sum * 31 + byte) % 240, 0)
  const task = schedule(`${minute % 60} ${2 + Math.floor(minute / 60)} * * *`, async () => {
    context.catalogue.audit.prune(context.config.audit.keep_days)
    await reclaimQuietly(context)
  }, { noOverlap: true })
  return { [Symbol.dispose]: () => { void task.destroy() } }
}

/**
 * Starts the daemon; the order is the order below. What it returns ends everything again. Running jobs are not touched by
 * either.
 */
export async function boot(config: Config, stopping: AbortSignal): Promise<AsyncDisposable> {
  const log = makeLog()
  await using stack = new AsyncDisposableStack()
  if (!withoutCoreDumps()) log.warn('core files cannot be switched off')
  mkdirSync(join(config.paths.run_dir, 'sandboxes'), { recursive: true, mode: 0o755 })
  const catalogue = stack.use(Catalogue.open(cataloguePath(config), join(import.meta.dirname, '..', 'migrations'), config.limits.events_per_run))
  const commands = new CommandRunner(log)
  const { programs } = config
  const cpu = new CpuRecord(commands, programs.criu, join(config.paths.state_dir, 'cpu'))
  const engine = new CriuEngine(commands, { criu: programs.criu, nsenter: programs.nsenter, unshare: programs.unshare, setpriv: programs.setpriv, libexecDir: config.paths.libexec_dir }, cpu)
  const network = stack.use(new SandboxNetwork(commands, programs, { pool: config.network.pool, mtu: config.network.mtu, vxlanPort: config.network.vxlan_port }))
  const node = nodeName()
  const keyring = new Keyring(config.store.key_file, (fault) => { log.error({ err: fault }, 'the store keys cannot be read; those that were read last stay in force') })
  const store = new PosixStore(config.store.path, config.store.writers, node, () => keyring.current())
  const scontrol = new Scontrol(commands, programs, config.slurm.timeout_seconds)
  const addressOf = (node: string): Promise<string> => scontrol.nodeAddress(node)
  const peers = stack.use(new Peers(peerSettings(config), log, addressOf))
  const loop = stack.use(new EventLoopMonitor())
  const looks = stack.use(new LookPool(config, node))
  const context: Context = {
    config, log, catalogue, commands, clock: systemClock, kernel: linux, contents: imageContents, engine, network, store, keyring, stopping, segment: new Segment(commands, programs, config.network.pool),
    look: async (...args) => looks.look(...args),
    health: () => ({ loopDelay: loop.read(), looks: looks.load }),
    node,
    version: versionOfStint(),
    peers, announced: new Map(), expected: new Map(),
    cluster: new PeerDaemons(peers, { checkpointSeconds: config.checkpoint.timeout_seconds, restoreSeconds: config.restore.timeout_seconds }, addressOf),
    postOffice: (...args) => new PostOffice(...args),
    scontrol,
    users: new Users(commands, programs.getent),
    sbatch: new Sbatch(commands, { sbatch: programs.sbatch, setpriv: programs.setpriv }, config.slurm.timeout_seconds),
    squeue: new Squeue(commands, programs.squeue, config.slurm.timeout_seconds),
    drain: { report: undefined },
    criuVersion: await engine.version(),
    fault: faultHook(log),
    budgets: new Budgets(config.limits),
    sandboxes: new Map(), closing: new Set(),
  }
  // Without the record images of this node are taken to fit everywhere.
  await cpu.take().catch((error: unknown) => { log.warn({ err: error }, "this node's CPU could not be recorded") })
  await network.prepareNode()
  network.keepReady()
  store.removeUnfinished()
  catalogue.members.endEarlierBoots(bootId())
  closeEndedSandboxes(context)
  catalogue.audit.prune(config.audit.keep_days)
  stack.use(reclaimDaily(context))
  stack.use(watchDrain(context))
  stack.use(watchWaiting(context))
  stack.use(await serveSandboxes(context))
  stack.use(await servePeerApi(context))
  stack.use(await serveRestApi(context))
  const serviceManager = process.env['NOTIFY_SOCKET']
  notifyServiceManager('READY=1', serviceManager)
  stack.use(keepWatchdog(process.env, (error) => { log.warn({ err: error }, 'the service manager was not told that the daemon is alive') }))
  stack.defer(() => { notifyServiceManager('STOPPING=1', serviceManager) })
  log.info({ node: context.node, criu: context.criuVersion, store: store.name }, 'stintd is ready')
  return stack.move()
}
