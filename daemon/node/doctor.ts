import { accessSync, constants, readFileSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { release } from 'node:os'
import { dirname, join } from 'node:path'
import { asStintError } from '../core/errors.ts'
import { parseCgroupMounts } from '../linux/cgroups.ts'
import type { Context } from '../context.ts'
import { sealingKey, type StoreKeys } from '../core/store-keys.ts'
import { isStoreLocal } from '../images/locality.ts'
import { whyEncapsulated } from '../run/encapsulation.ts'

/** One precondition on this node. */
export interface Finding {
  readonly subject: string
  readonly verdict: 'ok' | 'warning' | 'fault'
  readonly found: string
  readonly remedy: string
}

interface Check {
  readonly subject: string
  readonly run: (context: Context) => Promise<Finding | Finding[]> | Finding | Finding[]
}

/** Bytes written to measure the store: enough to leave caches of controllers, little enough for a busy node. */
const probeBytes = 64 * 2 ** 20

/** Other nodes asked, and for how long, at most. */
const maxPeers = 32
const peerSeconds = 5

const nodeNameRemedy = 'Host names, up to their first dot, must be the NodeNames of slurm.conf.'

function finding(subject: string, good: boolean, found: string, remedy: string, otherwise: Finding['verdict'] = 'fault'): Finding {
  return { subject, verdict: good ? 'ok' : otherwise, found, remedy: good ? '' : remedy }
}

/** Compares dotted versions by their numbers. */
export function atLeast(version: string, minimum: string): boolean {
  const [a, b] = [version, minimum].map((v) => v.split(/[^0-9]+/).map(Number))
  for (let i = 0; i < (b?.length ?? 0); i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0)
    if (difference !== 0) return difference > 0
  }
  return true
}

/** CRIU before 4.2 cannot dump a socket on kernels from 6.16: SO_PASSCRED is refused on inet sockets there. */
function checkCriuVersion(context: Context): Finding {
  const wanted = atLeast(release(), '6.16') ? '4.2' : '4.0'
  return finding('CRIU version', atLeast(context.criuVersion, wanted), context.criuVersion, `Install CRIU ${wanted} or newer for kernel ${release()}.`)
}

async function checkFeature(context: Context, feature: string, subject: string, remedy: string, verdict: Finding['verdict']): Promise<Finding> {
  const { exitCode } = await context.commands.run([context.config.programs.criu, 'check', '--feature', feature], { expected: [0, 1] })
  return finding(subject, exitCode === 0, exitCode === 0 ? 'available' : 'missing', remedy, verdict)
}

function checkCgroups(): Finding {
  const mounts = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
  const [v2, v1] = [mounts.some((m) => m.controllers.length === 0), mounts.filter((m) => m.controllers.length > 0)]
  const layout = v1.length === 0 ? 'v2' : v2 ? 'hybrid' : 'v1'
  return finding('cgroup layout', v2 || v1.some((m) => m.controllers.includes('freezer')), layout, 'Mount cgroup v2, or the v1 freezer hierarchy.')
}

function checkHelpers(context: Context): Finding {
  const missing = ['stint-init', 'stint-barrier', 'criu-shim.so'].filter((name) => {
    try {
      accessSync(join(context.config.paths.libexec_dir, name), constants.R_OK)
      return false
    } catch {
      return true
    }
  })
  return finding('helpers', missing.length === 0, missing.length === 0 ? context.config.paths.libexec_dir : `missing: ${missing.join(', ')}`, 'Run `make -C plugins/spank install`.')
}

/** CRIU damages programs without a word where criu-shim.so is not in force: it must be dynamically linked, against a library that the shim knows. */
async function checkPreload({ engine }: Context): Promise<Finding> {
  const { loaded, missing } = await engine.unmended()
  const found = loaded ? `CRIU does not use it for ${missing.join(' and ')}` : 'CRIU does not load it'
  const remedy = loaded
    ? 'Tell Stint\'s developers which CRIU this is; until then programs that wait for one of these may stand still, or see an error, after they were saved.'
    : 'Install a CRIU that is dynamically linked against glibc and has no file capabilities (getcap); else programs that wait in system calls or on timers may stand still, or see an error, after they were saved.'
  return finding('CRIU preload', missing.length === 0, missing.length === 0 ? 'criu-shim.so is in force' : found, remedy)
}

/** Slurm prints `(null)` for a path that slurm.conf does not set; the file then lies beside slurm.conf. */
function plugstackPath(config: ReadonlyMap<string, string>): string {
  const set = config.get('PlugStackConfig')
  return set === undefined || set === '(null)' ? join(dirname(config.get('SLURM_CONF') ?? '/etc/slurm/slurm.conf'), 'plugstack.conf') : set
}

/** The plugin must be where slurmd looks, named in plugstack.conf, and built for this Slurm. */
async function checkPlugin(context: Context): Promise<Finding> {
  const config = await context.scontrol.showConfig()
  const plugstack = plugstackPath(config)
  const remedy = `Add "optional spank_stint.so" to ${plugstack} and install the plugin into ${config.get('PluginDir') ?? 'PluginDir'}.`
  const path = (config.get('PluginDir') ?? '').split(':').map((directory) => join(directory, 'spank_stint.so')).find((candidate) => {
    try {
      accessSync(candidate, constants.R_OK)
      return true
    } catch {
      return false
    }
  })
  const named = /^\s*(optional|required)\s+\S*spank_stint\.so/m.exec(readFileSync(plugstack, 'utf8'))
  if (path === undefined || named === null) return finding('Slurm plugin', false, path === undefined ? 'spank_stint.so is not in PluginDir' : `not named in ${plugstack}`, remedy)
  return finding('Slurm plugin', named[1] === 'optional', `${path}, ${named[1] ?? ''}`, 'Make it `optional`: a required plugin that fails drains the node.', 'warning')
}

async function checkSlurmSettings(context: Context): Promise<Finding[]> {
  const config = await context.scontrol.showConfig()
  const requeue = config.get('JobRequeue')
  const append = config.get('JobFileAppend')
  return [
    finding('Slurm version', true, config.get('SLURM_VERSION') ?? 'unknown', ''),
    finding('requeue allowed', requeue === '1', `JobRequeue=${requeue ?? '?'}`, 'Set JobRequeue=1 in slurm.conf, or users submit with --requeue.', 'warning'),
    finding('open mode', append === '1', `JobFileAppend=${append ?? '?'}`, 'Set JobFileAppend=1 in slurm.conf, or users submit with --open-mode=append; else output files must travel with every image.', 'warning'),
  ]
}

/** Whether it is there, writable and has room. */
function checkStore(context: Context): Finding {
  context.store.assertUsable(probeBytes)
  const isLocal = isStoreLocal(context)
  return finding('image store', !isLocal, `${context.config.store.path}${isLocal ? ', on this node alone' : ''}`, 'Jobs of one node continue on the same node only, jobs over several nodes cannot be saved: set store.path to a file system that all nodes share. If it is one, list it in files.shared_paths.', 'warning')
}

/** Whether images are vouched for. */
function checkKey({ keyring, config: { store: { key_file: path } } }: Context): Finding {
  const keys = keyring.current()
  const { fault } = keyring
  if (fault !== undefined) return finding('store key', false, fault.message, `${fault.hint} Until then the keys that were read last stay in force.`)
  const sealing = sealingKey(keys)
  const found = sealing === undefined ? (keys.length === 0 ? 'there is none' : `none seals, ${keys.length} accepted`) : `${sealing.id} seals, ${keys.length} accepted`
  const remedy = keys.length === 0
    ? `Whoever can write to the image store, from whatever machine, can have a job restored as another program or as root. \`stint key init\` makes ${path}; copy it to every node ("Store keys" in docs/operations.md).`
    : 'Copy the key file to every node, then `stint key rotate` takes the staged key into use.'
  return finding('store key', sealing !== undefined, found, remedy, 'warning')
}

/** How fast: a probe file written and flushed. */
async function probeStore(context: Context): Promise<Finding> {
  const path = join(context.config.store.path, `.probe-${context.node}`)
  const chunk = Buffer.alloc(4 * 2 ** 20, 0x5a)
  const started = performance.now()
  const file = await open(path, 'w', 0o600)
  try {
    for (let written = 0; written < probeBytes; written += chunk.length) await file.write(chunk)
    await file.datasync()
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
  const rate = probeBytes / ((performance.now() - started) / 1000)
  const assumed = context.config.deadline.assumed_mb_per_second * 1e6
  return finding('store rate', rate >= assumed, `${Math.round(rate / 1e6)} MB/s measured, ${Math.round(assumed / 1e6)} assumed`, 'Lower deadline.assumed_mb_per_second, so that first checkpoints are not late.', 'warning')
}

/** A node that lacks a key cannot continue what was sealed with it; one that seals with none makes images that others refuse. */
export function keyFault(node: string, theirs: readonly { readonly id: string; readonly use: string }[], ours: StoreKeys): { found: string; remedy: string } | undefined {
  const remedy = 'Every node needs the same key file (store.key_file): copy it from one to all.'
  const missing = ours.find(({ id }) => !theirs.some((key) => key.id === id))
  if (missing !== undefined) return { found: `${node}: lacks store key ${missing.id}`, remedy }
  const more = theirs.find(({ id }) => !ours.some((key) => key.id === id))
  if (more !== undefined) return { found: `${node}: has store key ${more.id}, which this node lacks`, remedy }
  const seals = (keys: readonly { readonly id: string; readonly use: string }[]): string => keys.find(({ use }) => use === 'seal')?.id ?? 'none'
  return seals(theirs) === seals(ours) ? undefined : { found: `${node}: seals with store key ${seals(theirs)}, this node with ${seals(ours)}`, remedy }
}

/** What is wrong with another node's daemon as seen from here, or undefined. */
async function peerFault({ peers, stopping, version, keyring }: Context, node: string): Promise<{ found: string; remedy: string } | undefined> {
  try {
    const hello = await peers.hello(node, { signal: stopping, timeoutSeconds: peerSeconds })
    if (hello.node !== node) return { found: `${node}: calls itself ${hello.node}`, remedy: nodeNameRemedy }
    if (hello.version !== version) return { found: `${node}: has Stint ${hello.version}, this node ${version}`, remedy: 'Install the same version on every node.' }
    return keyFault(node, hello.keys, keyring.current())
  } catch (cause) {
    const error = asStintError(cause)
    return { found: error.message, remedy: error.hint }
  }
}

/** Those that are up. In a large cluster not all are asked, and every node asks those that follow it. */
async function otherNodes({ scontrol, node }: Context): Promise<string[]> {
  const nodes = await scontrol.showNodes()
  const self = nodes.findIndex(({ name }) => name === node)
  return [...nodes.slice(self + 1), ...nodes.slice(0, Math.max(self, 0))].filter(({ up }) => up).map(({ name }) => name)
}

/** Jobs over several nodes need it: daemons ask each other. */
async function checkPeers(context: Context): Promise<Finding> {
  const others = await otherNodes(context)
  if (others.length === 0) return finding('other nodes', true, 'not needed: Slurm knows no other that is up', '')
  const asked = others.slice(0, maxPeers)
  const [fault, ...more] = (await Promise.all(asked.map(async (node) => peerFault(context, node)))).filter((found) => found !== undefined)
  if (fault === undefined) return finding('other nodes', true, `${asked.length} of ${others.length} asked, all answer`, '')
  return finding('other nodes', false, `${fault.found}${more.length > 0 ? ` (and ${more.length} more of ${asked.length})` : ''}`, fault.remedy)
}

/** How jobs over several nodes will travel from here, and why: each other node is tried. */
async function checkMemberNetwork(context: Context): Promise<Finding> {
  const { encapsulation } = context.config.network
  const subject = 'network of members'
  if (encapsulation === 'vxlan') return finding(subject, true, 'VXLAN, as network.encapsulation says', '')
  const others = await otherNodes(context)
  if (others.length === 0) return finding(subject, true, 'not needed, there is no other node', '')
  const answers = await Promise.all(others.slice(0, maxPeers).map((node) => whyEncapsulated(context, [context.node, node])))
  const without = answers.filter((why) => why === undefined).length
  const why = answers.find((answer) => answer !== undefined)
  const found = `without encapsulation to ${without} of ${answers.length} nodes tried${why === undefined ? '' : `, VXLAN to the others: ${why}`}`
  if (encapsulation === 'auto' || why === undefined) return finding(subject, true, found, '')
  return finding(subject, false, `network.encapsulation is "none", but ${why}`, 'Set network.encapsulation to "auto" or "vxlan" on all nodes.')
}

/** Slurm's orders and this daemon's must speak of the same node. */
async function checkNodeName({ scontrol, node }: Context): Promise<Finding> {
  const isKnown = (await scontrol.showNodes()).some(({ name }) => name === node)
  return finding('node name', isKnown, isKnown ? node : `Slurm knows no node ${node}`, nodeNameRemedy)
}

const checks: readonly Check[] = [
  { subject: 'kernel', run: () => finding('kernel', true, release(), '') },
  { subject: 'CRIU version', run: checkCriuVersion },
  { subject: 'time namespace', run: (context) => checkFeature(context, 'timens', 'time namespace', 'Use a kernel with CONFIG_TIME_NS, or CLOCK_MONOTONIC jumps when a job moves.', 'warning') },
  { subject: 'dirty tracking', run: (context) => checkFeature(context, 'mem_dirty_track', 'dirty tracking', 'Needs CONFIG_MEM_SOFT_DIRTY; without it incremental images are not possible, all else is.', 'warning') },
  { subject: 'cgroup layout', run: checkCgroups },
  { subject: 'helpers', run: checkHelpers },
  { subject: 'CRIU preload', run: checkPreload },
  { subject: 'Slurm plugin', run: checkPlugin },
  { subject: 'Slurm', run: checkSlurmSettings },
  { subject: 'node name', run: checkNodeName },
  { subject: 'image store', run: checkStore },
  { subject: 'store key', run: checkKey },
]

/** For root alone: they write 64 MiB and connect to other machines. */
const probes: readonly Check[] = [
  { subject: 'store rate', run: probeStore },
  { subject: 'other nodes', run: checkPeers },
  { subject: 'network of members', run: checkMemberNetwork },
]

/** Every precondition on this node; a check that cannot be made is a fault with its error as the finding. */
export async function examine(context: Context, options: { readonly probe: boolean }): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const check of options.probe ? [...checks, ...probes] : checks) {
    try {
      findings.push(...[await check.run(context)].flat())
    } catch (cause) {
      const error = asStintError(cause)
      findings.push({ subject: check.subject, verdict: 'fault', found: error.message, remedy: error.hint })
    }
  }
  return findings
}

/**
 * What users are told: one look for all who ask meanwhile, and for some time after it. Its programs take a second or so, and
 * everybody may ask for it.
 */
export class SharedExamination {
  readonly #context: Context
  #last: { readonly at: number; readonly findings: Promise<Finding[]> } | undefined

  constructor(context: Context) {
    this.#context = context
  }

  async findings(): Promise<Finding[]> {
    const freshMilliseconds = this.#context.config.limits.doctor_seconds * 1000
    if (this.#last === undefined || performance.now() - this.#last.at >= freshMilliseconds) {
      const findings = examine(this.#context, { probe: false })
      const look = { at: Infinity, findings } // Nobody begins another before it is done.
      this.#last = look
      void findings.finally(() => { look.at = performance.now() }).catch(() => undefined)
    }
    return this.#last.findings
  }
}
