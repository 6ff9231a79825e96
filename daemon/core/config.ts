import { StintError } from './errors.ts'
import { encapsulationModes, isAddressPool } from './addresses.ts'
import { rehearseModes } from './rehearsal.ts'
import { everyForm } from './schedule.ts'

function isWholeNumber(value: unknown, least: number, most: number): boolean {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
}

/** What a value must be besides its type, in the words of the reference page and of the error. */
const bounds = {
  'an absolute path': (value) => typeof value === 'string' && value.startsWith('/'),
  'absolute paths': (value) => Array.isArray(value) && value.every((path) => typeof path === 'string' && path.startsWith('/')),
  'an aligned IPv4 prefix from /8 to /23': (value) => typeof value === 'string' && isAddressPool(value),
  '1 or more': (value) => typeof value === 'number' && value >= 1,
  'a whole number from 1': (value) => Number.isInteger(value) && (value as number) >= 1,
  '0 or a whole number from 1280 to 65535': (value) => value === 0 || isWholeNumber(value, 1280, 65535),
  'a port number': (value) => isWholeNumber(value, 1, 65535),
  'a user name': (value) => typeof value === 'string' && /^[a-z_][a-z0-9_-]*$/i.test(value),
  '"hold" or "start"': (value) => value === 'hold' || value === 'start',
  '"auto", "vxlan" or "none"': (value) => encapsulationModes.some((mode) => mode === value),
  '"never", "first" or "always"': (value) => rehearseModes.some((mode) => mode === value),
  '"never" or "asked"': (value) => value === 'never' || value === 'asked',
  'never, auto, or a number with s, m, h or d': (value) => typeof value === 'string' && everyForm.test(value),
  'a whole number from 10': (value) => Number.isInteger(value) && (value as number) >= 10,
  'a whole number from 0': (value) => Number.isInteger(value) && (value as number) >= 0,
  '0 or more': (value) => typeof value === 'number' && value >= 0,
} as const satisfies Record<string, (value: unknown) => boolean>

type Bound = keyof typeof bounds

export interface Setting {
  /** Its type is the setting's type. */
  readonly default: string | number | readonly string[]
  readonly must: Bound
  readonly doc: string
}

/**
 * The one table of settings. The validator, `stint config show`, the sample file and the reference page come from it. Units
 * stand in the names.
 */
export const settings = {
  paths: {
    socket: { default: '/run/stint/stintd.sock', must: 'an absolute path', doc: 'REST socket; every local user may connect, the kernel tells who it is' },
    sandbox_socket: { default: '/run/stint/sandbox.sock', must: 'an absolute path', doc: 'socket of the Slurm plugin; root only' },
    peer_socket: { default: '/run/stint/peer.sock', must: 'an absolute path', doc: 'socket for the daemons of other nodes, which come over SSH; root only, the same on every node' },
    run_dir: { default: '/run/stint', must: 'an absolute path', doc: 'sockets and small files of running sandboxes' },
    state_dir: { default: '/var/lib/stint', must: 'an absolute path', doc: 'the catalogue' },
    libexec_dir: { default: '/usr/libexec/stint', must: 'an absolute path', doc: 'stint-init, stint-barrier, criu-shim.so' },
  },
  programs: {
    criu: { default: '/usr/sbin/criu', must: 'an absolute path', doc: 'CRIU, 4.2 or newer on kernels from 6.16' },
    nsenter: { default: '/usr/bin/nsenter', must: 'an absolute path', doc: 'util-linux' },
    unshare: { default: '/usr/bin/unshare', must: 'an absolute path', doc: 'util-linux' },
    setpriv: { default: '/usr/bin/setpriv', must: 'an absolute path', doc: 'util-linux' },
    ip: { default: '/usr/sbin/ip', must: 'an absolute path', doc: 'iproute2' },
    bridge: { default: '/usr/sbin/bridge', must: 'an absolute path', doc: 'iproute2' },
    ss: { default: '/usr/bin/ss', must: 'an absolute path', doc: 'iproute2' },
    nft: { default: '/usr/sbin/nft', must: 'an absolute path', doc: 'nftables' },
    tar: { default: '/usr/bin/tar', must: 'an absolute path', doc: 'GNU tar' },
    getent: { default: '/usr/bin/getent', must: 'an absolute path', doc: 'libc; tells login names as nsswitch.conf has them' },
    scontrol: { default: '/usr/bin/scontrol', must: 'an absolute path', doc: 'Slurm' },
    sbatch: { default: '/usr/bin/sbatch', must: 'an absolute path', doc: 'Slurm' },
    srun: { default: '/usr/bin/srun', must: 'an absolute path', doc: 'Slurm; starts the other members of jobs over several nodes' },
    squeue: { default: '/usr/bin/squeue', must: 'an absolute path', doc: 'Slurm; asked by `stint drain` which jobs of a node are not under Stint' },
  },
  store: {
    path: { default: '/var/lib/stint/store', must: 'an absolute path', doc: 'image store; on a shared file system, or jobs can only continue on the same node' },
    keep_checkpoints: { default: 2, must: 'a whole number from 1', doc: 'sealed checkpoints kept per run: the newest, and those to fall back on' },
    writers: { default: 0, must: 'a whole number from 0', doc: 'checkpoints of all nodes that may write to this store at once; 0: any number. Periodic ones and `stint drain` wait for their turn, nothing else does' },
    keep_days: { default: 7, must: '0 or more', doc: 'images of runs that did not end well are kept so long' },
    keep_finished_days: { default: 0, must: '0 or more', doc: 'images of runs that came to their own end or were cancelled are kept so long; 0 removes them at once' },
    quota_gb: { default: 0, must: '0 or more', doc: 'images of all users may take so much, 10^9 bytes; 0 sets no limit' },
    user_quota_gb: { default: 0, must: '0 or more', doc: 'images of one user may take so much, 10^9 bytes; 0 sets no limit' },
    key_file: { default: '/etc/stint/store.key', must: 'an absolute path', doc: 'keys that vouch for images, the same on every node; made by `stint key init`; without the file nothing tells a forged image' },
  },
  audit: {
    keep_days: { default: 365, must: '0 or more', doc: 'so long the record of who saved, restored, removed or drained what stays (`stint audit`); nothing younger can be deleted from it' },
  },
  files: {
    shared_paths: { default: [], must: 'absolute paths', doc: 'directories that are the same on every node whatever their file system says' },
    system_paths: {
      default: ['/usr', '/lib', '/lib64', '/bin', '/sbin', '/etc', '/opt', '/dev', '/proc', '/sys', '/run', '/var/lib', '/var/cache'],
      must: 'absolute paths',
      doc: 'directories that hold the same files on every node; open for reading only they need not travel',
    },
    carry_limit_mb: { default: 1024, must: '0 or more', doc: 'node-local files of the user that are open travel with the image up to this total' },
    rollback_copy_limit_mb: { default: 1024, must: '0 or more', doc: 'of files on shared storage that are open for writing, so much in total is copied into each image while the job is frozen; larger ones come back only where the store can share their blocks' },
  },
  network: {
    pool: { default: '100.64.0.0/10', must: 'an aligned IPv4 prefix from /8 to /23', doc: 'virtual addresses of sandboxes; must not be in use at the site' },
    mtu: { default: 0, must: '0 or a whole number from 1280 to 65535', doc: "of the devices in the sandbox, bytes; 0: between members what the nodes' network carries, less 50 with VXLAN, to the outside 1450" },
    encapsulation: { default: 'auto', must: '"auto", "vxlan" or "none"', doc: "how packets of jobs over several nodes travel between them. none: as they are, at the nodes' own speed, between nodes of one layer-2 segment that lets foreign IP addresses pass; vxlan: through any network; auto: none where a test between the job's nodes shows that it works" },
    vxlan_port: { default: 4789, must: 'a port number', doc: 'UDP port between nodes for the traffic of jobs over several nodes' },
  },
  deadline: {
    margin_seconds: { default: 2, must: '0 or more', doc: 'kept free before the walltime in any case' },
    safety: { default: 3, must: '1 or more', doc: 'factor on the spread of what checkpoints took on this node (its median absolute deviation, at least a tenth of the prediction)' },
    assumed_mb_per_second: { default: 200, must: '1 or more', doc: 'rate of the store while checkpoints of different sizes do not tell it' },
  },
  schedule: {
    every: { default: 'never', must: 'never, auto, or a number with s, m, h or d', doc: 'periodic checkpoints of jobs that ask for nothing else with --stint=every=...; auto: the interval that loses least, by what a checkpoint costs and node_mtbf_hours' },
    least_seconds: { default: 300, must: '1 or more', doc: 'no job is saved periodically more often than this' },
    jitter_seconds: { default: 60, must: '0 or more', doc: 'periodic checkpoints by cron=... begin up to so much later, at random: nodes must not write at once' },
    node_mtbf_hours: { default: 20_000, must: '1 or more', doc: 'mean time between failures of one node; only every=auto needs it' },
  },
  drain: {
    parallel: { default: 4, must: 'a whole number from 1', doc: 'jobs of a node that `stint drain` saves at once' },
    automatic_seconds: { default: 0, must: '0 or more', doc: 'so often a node asks Slurm whether it is being drained, and saves its jobs when it is; 0: never' },
  },
  checkpoint: {
    timeout_seconds: { default: 1800, must: '1 or more', doc: 'a dump that takes longer is aborted, the job runs on' },
    retry_seconds: { default: 30, must: '0 or more', doc: 'the pause after a failed checkpoint; before the end of a job pauses double, and one try comes at the last moment that is still in time' },
    look_limit: { default: 100_000, must: 'a whole number from 1', doc: 'processes, threads, open files and mapped files that a job may have on a node to be saved; more are too many to look at in time' },
    look_seconds: { default: 60, must: '1 or more', doc: 'for one look at a job; one that takes longer is ended, and the job is not saved while that is so' },
    look_helpers: { default: 3, must: 'a whole number from 1', doc: 'processes that look at jobs for the daemon, at most; one user never has all of them, where there are two or more' },
  },
  restore: {
    timeout_seconds: { default: 900, must: '1 or more', doc: 'a restore that takes longer is given up' },
    attempts: { default: 3, must: 'a whole number from 1', doc: 'tries of one checkpoint over all nodes before an older one is taken, or the job is held' },
    settle_seconds: { default: 10, must: '0 or more', doc: 'a program that crashes within so long after its restore is restored again; one that lives longer has come through' },
    moves: { default: 8, must: '0 or more', doc: 'nodes that a checkpoint may leave, over all its tries, because their CPU lacks what the program may use' },
    rehearse: { default: 'never', must: '"never", "first" or "always"', doc: 'whether a checkpoint is restored beside the frozen payload before it counts: the first of a job on each node, or every one; not those before the walltime or a preemption' },
    fallback: { default: 'hold', must: '"hold" or "start"', doc: 'when no checkpoint can be restored and the job does not say: hold it, or run its script from the start' },
  },
  cluster: {
    ssh_port: { default: 22, must: 'a port number', doc: 'of sshd on the other nodes' },
    ssh_user: { default: 'root', must: 'a user name', doc: 'who to be there; needs uid 0' },
    ssh_key: { default: '/root/.ssh/id_ed25519', must: 'an absolute path', doc: 'private key without passphrase' },
    known_hosts: { default: ['/etc/ssh/ssh_known_hosts', '/root/.ssh/known_hosts'], must: 'absolute paths', doc: 'host keys of the other nodes, as ssh reads them; a node that is in none of these files is not talked to' },
    connect_timeout_seconds: { default: 5, must: '1 or more', doc: 'until a connection to another node is ready' },
    dead_after_seconds: { default: 3, must: '1 or more', doc: 'a node whose sshd is silent so long is given up, and with it every request to it' },
    request_timeout_seconds: { default: 15, must: '1 or more', doc: 'for a request to another node that is not known to take longer' },
    attempts: { default: 5, must: 'a whole number from 1', doc: 'tries to bring a request on its way, half a second apart; once it is sent it is never sent again' },
    idle_seconds: { default: 300, must: '1 or more', doc: 'a connection that nobody used so long is closed' },
  },
  limits: {
    connections_per_user: { default: 64, must: 'a whole number from 1', doc: 'connections of one user to the REST socket at once; root has no limit. So it is with all settings of this section: they are for each user on each node' },
    idle_seconds: { default: 10, must: '1 or more', doc: 'a connection to the REST socket on which no request comes so long is closed' },
    body_seconds: { default: 20, must: '1 or more', doc: 'a request to the REST socket that is not there as a whole after so long is closed' },
    requests_per_user: { default: 32, must: 'a whole number from 1', doc: 'requests that are worked on at once, those of other nodes for the same user included' },
    requests_per_second: { default: 20, must: '1 or more', doc: 'requests to the REST socket, ten seconds of them at once; lists and `stint check` count for five' },
    doctor_seconds: { default: 10, must: '0 or more', doc: 'what `stint doctor` found is told to all users for so long before it looks again; root always gets a new look' },
    checkpoints_per_hour: { default: 60, must: 'a whole number from 1', doc: 'checkpoints on request and by signal, those of other nodes for the same user included' },
    letters_per_user: { default: 256, must: 'a whole number from 1', doc: 'connections of MPI launchers and their agents at once; more are closed and come again by themselves' },
    letters_per_second: { default: 500, must: '1 or more', doc: 'what MPI launchers and their agents may ask, two seconds of it at once' },
    launches_per_run: { default: 1024, must: 'a whole number from 1', doc: "commands that a run's MPI launchers have under way at once" },
    launch_book_mb: { default: 4, must: '1 or more', doc: 'commands not yet fetched and output not yet taken of one run, 10^6 bytes; what comes on top waits' },
    launch_mb_per_second: { default: 32, must: '1 or more', doc: 'so much of launch books is written for one user; what comes on top waits' },
    script_mb: { default: 16, must: '1 or more', doc: 'a job whose script is larger cannot be saved, 10^6 bytes; Slurm itself takes 4 MB by default (max_script_size)' },
    events_per_run: { default: 1000, must: 'a whole number from 10', doc: 'what `stint status` remembers of one run; older events are forgotten' },
    log_lines_per_minute: { default: 120, must: 'a whole number from 1', doc: 'refusals of one user that are logged; of the rest their number is' },
  },
  slurm: {
    look_seconds: { default: 30, must: '1 or more', doc: 'so often slurmctld is asked about each running job: an earlier limit or a preemption is noticed within this' },
    timeout_seconds: { default: 15, must: '1 or more', doc: 'for one scontrol call' },
    resubmit: { default: 'never', must: '"never" or "asked"', doc: 'whether a job that may not be requeued goes on as a new job of its owner when it asks for that (--stint=continue=submit)' },
    requeue_retry_seconds: { default: 5, must: '1 or more', doc: 'between tries of a requeue that Slurm did not accept' },
  },
} as const satisfies Record<string, Record<string, Setting>>

type Widen<T> = T extends string ? string : T extends number ? number : T extends readonly string[] ? readonly string[] : never
type Settings = typeof settings
/** The table for those who walk through it. */
export const settingTable: Readonly<Record<string, Readonly<Record<string, Setting>>>> = settings

export type Config = { readonly [S in keyof Settings]: { readonly [K in keyof Settings[S]]: Settings[S][K] extends { default: infer D } ? Widen<D> : never } }

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length] ?? 0
}

/** A name without its unit (`margin` for `margin_seconds`) is nearer than any misspelling. */
function nearest(word: string, candidates: readonly string[]): string {
  const distance = (candidate: string): number => (candidate.startsWith(`${word}_`) ? 0 : editDistance(word, candidate))
  return candidates.toSorted((a, b) => distance(a) - distance(b))[0] ?? ''
}

function sameType(value: unknown, model: unknown): boolean {
  if (Array.isArray(model)) return Array.isArray(value) && value.every((v) => typeof v === 'string')
  if (typeof model === 'number') return typeof value === 'number' && Number.isFinite(value)
  return typeof value === typeof model
}

/** A TOML table: neither an array of tables nor a date. */
function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

/** A value as TOML would have it; JSON knows neither infinity nor NaN. */
function inspect(value: unknown): string {
  return typeof value === 'number' ? String(value) : JSON.stringify(value)
}

/**
 * The full configuration from what a file says (already parsed TOML).
 * @throws StintError E_BAD_CONFIG naming the key, and the nearest known one when it is unknown
 */
export function resolveConfig(file: Record<string, unknown>): Config {
  for (const section of Object.keys(file)) {
    if (!Object.hasOwn(settingTable, section)) throw new StintError('E_BAD_CONFIG', `unknown section [${section}]; did you mean [${nearest(section, Object.keys(settingTable))}]?`)
  }
  const resolved: Record<string, Record<string, unknown>> = {}
  for (const [section, keys] of Object.entries(settingTable)) {
    const given = file[section] ?? {}
    if (!isSection(given)) throw new StintError('E_BAD_CONFIG', `${section} must be a section: [${section}]`)
    const values: Record<string, unknown> = {}
    for (const [key, value] of Object.entries(given)) {
      const setting = Object.hasOwn(keys, key) ? keys[key] : undefined
      if (setting === undefined) throw new StintError('E_BAD_CONFIG', `unknown key ${section}.${key}; did you mean ${section}.${nearest(key, Object.keys(keys))}?`)
      if (!sameType(value, setting.default) || !bounds[setting.must](value)) {
        throw new StintError('E_BAD_CONFIG', `${section}.${key} must be ${setting.must}, like ${JSON.stringify(setting.default)}, not ${inspect(value)}`)
      }
      values[key] = value
    }
    for (const [key, setting] of Object.entries(keys)) values[key] ??= setting.default
    resolved[section] = values
  }
  return resolved as unknown as Config
}

/** A value in TOML. JSON's strings are TOML's but for DEL, which TOML wants escaped. */
function toml(value: unknown): string {
  return JSON.stringify(value).replaceAll('\u007f', '\\u007f')
}

function lines(config: Config, setting: (key: string, value: string) => string): string {
  return Object.entries(settingTable).map(([section, keys]) => {
    const values: Record<string, unknown> = config[section as keyof Config]
    return [`[${section}]`, ...Object.entries(keys).flatMap(([key, { doc }]) => [`# ${doc}`, setting(key, toml(values[key]))]), ''].join('\n')
  }).join('\n')
}

/** The configuration as TOML with the meaning of every key above it. */
export function printConfig(config: Config): string {
  return lines(config, (key, value) => `${key} = ${value}`)
}

/** A file to start from: every key with its default, as a comment. */
export function sampleConfig(): string {
  return lines(resolveConfig({}), (key, value) => `#${key} = ${value}`)
}

/** Where stintd keeps its catalogue. */
export function cataloguePath({ paths }: Config): string {
  return `${paths.state_dir}/catalogue.sqlite`
}

/** Where it keeps the engine's logs, in a directory for each job. */
export function enginePath({ paths }: Config): string {
  return `${paths.state_dir}/engine`
}
