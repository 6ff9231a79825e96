import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { execa } from 'execa'
import { checkpoint } from '../../daemon/run/checkpoint.ts'
import { PeerDaemons } from '../../daemon/cluster/peer-daemons.ts'
import { Peers, peerSettings } from '../../daemon/cluster/peers.ts'
import { job, startMember, type Member } from './stand-in-member.ts'

/**
 * What it costs to save a run on many nodes beyond the slowest dump: from the trigger until all members stand at their
 * barriers, less the slowest engine. The coordinator is the product's own; every other member is a daemon in a process
 * of its own (stand-in-member.ts), reached over a real sshd of its own. All of them share this machine's cores, which nodes do not:
 * the figures are upper bounds.
 * Usage, as root where sshd is: coordination.ts [--members 4,16,64] [--rounds 7] [--seconds 0.2]
 * On the virtual cluster: tests/cluster/cluster exec n1 -- /opt/stint/node_modules/.bin/node /opt/stint/tests/bench/coordination.ts
 */

const { values } = parseArgs({ options: { members: { type: 'string', default: '4,16,64' }, rounds: { type: 'string', default: '7' }, seconds: { type: 'string', default: '0.2' } } })
const seconds = Number(values.seconds)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** Where the member's node is reached. */
function addressOf(member: number): string {
  return `127.0.1.${member}`
}

/** What sshd needs, once for all nodes: keys, and a configuration. */
async function configureSshd(folder: string, port: number): Promise<void> {
  for (const name of ['host', 'user']) await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  writeFileSync(join(folder, 'known_hosts'), `* ${readFileSync(join(folder, 'host.pub'), 'utf8')}`)
  writeFileSync(join(folder, 'sshd_config'), [
    `Port ${port}`, `HostKey ${folder}/host`, `AuthorizedKeysFile ${folder}/user.pub`, 'StrictModes no', 'PidFile none', 'UsePAM no',
    'AllowStreamLocalForwarding local', 'AllowTcpForwarding local',
  ].join('\n'))
}

/** The sshd of the member's node. As there, the peer socket has the same path for all, and each finds its own daemon's behind it. */
async function startSshd(folder: string, member: number): Promise<AsyncDisposable> {
  const child = spawn('unshare', [
    '--mount', 'sh', '-c', 'mount --bind "$1" "$2" && exec /usr/sbin/sshd -D -e -f "$3" -o "ListenAddress=$4"', 'sshd',
    nodeFolder(folder, member), join(folder, 'node'), join(folder, 'sshd_config'), addressOf(member),
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  await once(child.stderr, 'data') // "Server listening"
  child.stderr.resume()
  return { [Symbol.asyncDispose]: async () => endChild(child, () => child.kill()) }
}

/** What the member's node alone has. */
function nodeFolder(folder: string, member: number): string {
  return join(folder, `node-${member}`)
}

async function endChild(child: ChildProcess, end: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  end()
  await exited
}

interface Daemon extends AsyncDisposable {
  readonly ready: Promise<void>
}

/** The daemon of another member. */
function startDaemon(member: number, socketPath: string, store: string): Daemon {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'stand-in-member.ts'), String(member), socketPath, store, String(seconds)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ready = async (): Promise<void> => {
    const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]) as [unknown]
    if (String(said) !== 'ready\n') throw new Error(`member ${member} ended: ${String(said)}`)
  }
  return { ready: ready(), [Symbol.asyncDispose]: async () => endChild(child, () => { child.stdin.end() }) }
}

interface Round {
  /** From the trigger to the last barrier, less the slowest engine. */
  readonly beyondMs: number
  /** From the trigger to the last gate shut. */
  readonly quietMs: number
  readonly slowestDumpMs: number
  /** Of the coordinator's process, for the whole checkpoint: what nodes with cores of their own would not share. */
  readonly cpuMs: number
}

/** One checkpoint after which the run goes on, timed by what the coordinator puts on record. */
async function round({ made, sandbox }: Member): Promise<Round> {
  const before = process.cpuUsage()
  await checkpoint(made.context, sandbox, { trigger: 'request', keepRunning: true })
  const { user, system } = process.cpuUsage(before)
  const event = made.context.catalogue.events.ofRun(sandbox.run.id).findLast(({ kind }) => kind === 'prepared')
  const { quietMs, preparedMs, slowestDumpMs } = event?.detail as { quietMs: number; preparedMs: number; slowestDumpMs: number }
  return { beyondMs: preparedMs - slowestDumpMs, quietMs, slowestDumpMs, cpuMs: (user + system) / 1000 }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN
}

async function measure(members: number): Promise<string> {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync('/dev/shm/stint-bench-')
  stack.defer(() => { rmSync(folder, { recursive: true, force: true }) })
  // Catalogues and images in memory: nodes do not share a disk.
  process.env['TMPDIR'] = folder
  const store = join(folder, 'images')
  mkdirSync(store, { mode: 0o700 })
  const port = await freePort()
  await configureSshd(folder, port)
  mkdirSync(join(folder, 'node'))
  const coordinator = stack.use(await startMember(0, store, seconds))
  const { context } = coordinator.made
  const peers = stack.use(new Peers(
    { ...peerSettings(context.config), socketPath: join(folder, 'node', 'peer.sock'), port, keyPath: join(folder, 'user'), knownHostsPaths: [join(folder, 'known_hosts')] },
    context.log, async (node) => Promise.resolve(addressOf(Number(node.slice(1)))),
  ))
  const daemons = new PeerDaemons(peers, { checkpointSeconds: 60, restoreSeconds: 60 }, async () => Promise.resolve('127.0.0.1'))
  const starting: Promise<void>[] = []
  for (let member = 1; member < members; member++) {
    mkdirSync(nodeFolder(folder, member))
    starting.push(stack.use(startDaemon(member, join(nodeFolder(folder, member), 'peer.sock'), store)).ready)
    stack.use(await startSshd(folder, member))
    coordinator.sandbox.others.set(member, Promise.resolve(daemons.member(job, member, `m${member}`)))
  }
  await Promise.all(starting)
  process.stderr.write(`${members} ready\n`)
  const rounds: Round[] = []
  for (let at = 0; at <= Number(values.rounds); at++) rounds.push(await round(coordinator))
  const [first, ...others] = rounds
  const medianOf = (key: keyof Round): number => median(others.map((one) => one[key]))
  const cells = [members, first?.beyondMs, medianOf('beyondMs'), Math.min(...others.map((one) => one.beyondMs)), medianOf('quietMs'), medianOf('slowestDumpMs'), first?.cpuMs, medianOf('cpuMs'), loadavg()[0]]
  return `| ${cells.map((cell) => Math.round(cell ?? Number.NaN)).join(' | ')} |`
}

const columns = ['members', 'first, connecting, ms', 'median, ms', 'least, ms', 'of the median until all are quiet', 'slowest dump', "coordinator's CPU, first", "coordinator's CPU, median", 'load']
process.stdout.write(`| ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length)}\n`)
for (const members of values.members.split(',')) process.stdout.write(`${await measure(Number(members))}\n`)
