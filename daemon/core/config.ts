import { StintError } from './errors.ts'

/**
 * The one table of settings: default (its type is the setting's type) and what it means. The validator, `stintd
 * --print-config` and the reference page come from it. Units stand in the names.
 */
export const settings = {
  paths: {
    socket: { default: '/run/stint/stintd.sock', doc: 'REST socket; every local user may connect, the kernel tells who it is' },
    sandbox_socket: { default: '/run/stint/sandbox.sock', doc: 'socket of the Slurm plugin; root only' },
    run_dir: { default: '/run/stint', doc: 'sockets and small files of running sandboxes' },
    state_dir: { default: '/var/lib/stint', doc: 'the catalogue' },
    libexec_dir: { default: '/usr/libexec/stint', doc: 'stint-init, stint-barrier, criu-shim.so' },
  },
  programs: {
    criu: { default: '/usr/sbin/criu', doc: 'CRIU, 4.2 or newer on kernels from 6.16' },
    nsenter: { default: '/usr/bin/nsenter', doc: 'util-linux' },
    setpriv: { default: '/usr/bin/setpriv', doc: 'util-linux' },
    ip: { default: '/usr/sbin/ip', doc: 'iproute2' },
    nft: { default: '/usr/sbin/nft', doc: 'nftables' },
    tar: { default: '/usr/bin/tar', doc: 'GNU tar' },
    scontrol: { default: '/usr/bin/scontrol', doc: 'Slurm' },
  },
  store: {
    path: { default: '/var/lib/stint/store', doc: 'image store; on a shared file system, or jobs can only continue on the same node' },
    keep_days: { default: 7, doc: 'images of runs that did not end well are kept so long' },
  },
  files: {
    shared_paths: { default: [] as string[], doc: 'directories that are the same on every node whatever their file system says' },
    system_paths: {
      default: ['/usr', '/lib', '/lib64', '/bin', '/sbin', '/etc', '/opt', '/dev', '/proc', '/sys', '/run', '/var/lib', '/var/cache'],
      doc: 'directories that hold the same files on every node; open for reading only they need not travel',
    },
    carry_limit_mb: { default: 1024, doc: 'node-local files of the user that are open travel with the image up to this total' },
  },
  network: {
    pool: { default: '100.64.0.0/10', doc: 'virtual addresses of sandboxes; must not be in use at the site' },
    mtu: { default: 1450, doc: 'of the device in the sandbox, bytes' },
  },
  deadline: {
    margin_seconds: { default: 5, doc: 'kept free before the walltime' },
    safety: { default: 2, doc: 'factor on the predicted seconds' },
    assumed_mb_per_second: { default: 200, doc: 'rate of the store while none was measured' },
  },
  checkpoint: {
    timeout_seconds: { default: 1800, doc: 'a dump that takes longer is aborted, the job runs on' },
    retry_seconds: { default: 30, doc: 'after a failed checkpoint the next automatic try is not earlier' },
  },
  restore: {
    timeout_seconds: { default: 900, doc: 'a restore that takes longer is given up' },
    attempts: { default: 3, doc: 'tries of one checkpoint over all nodes before the job is held' },
  },
  slurm: {
    timeout_seconds: { default: 15, doc: 'for one scontrol call' },
    requeue_retry_seconds: { default: 5, doc: 'between tries of a requeue that Slurm did not accept' },
  },
} as const satisfies Record<string, Record<string, { default: string | number | string[]; doc: string }>>

type Widen<T> = T extends string ? string : T extends number ? number : T extends readonly string[] ? readonly string[] : never
type Settings = typeof settings
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

function nearest(word: string, candidates: readonly string[]): string {
  return candidates.toSorted((a, b) => editDistance(word, a) - editDistance(word, b))[0] ?? ''
}

function sameType(value: unknown, model: unknown): boolean {
  if (Array.isArray(model)) return Array.isArray(value) && value.every((v) => typeof v === 'string')
  if (typeof model === 'number') return typeof value === 'number' && Number.isFinite(value) && value >= 0
  return typeof value === typeof model
}

/**
 * The full configuration from what a file says (already parsed TOML).
 * @throws StintError E_BAD_CONFIG naming the key, and the nearest known one when it is unknown
 */
export function resolveConfig(file: Record<string, unknown>): Config {
  const table: Record<string, Record<string, { default: unknown }>> = settings
  for (const section of Object.keys(file)) {
    if (!Object.hasOwn(table, section)) throw new StintError('E_BAD_CONFIG', `unknown section [${section}]; did you mean [${nearest(section, Object.keys(table))}]?`)
  }
  const resolved: Record<string, Record<string, unknown>> = {}
  for (const [section, keys] of Object.entries(table)) {
    const given = (file[section] ?? {}) as Record<string, unknown>
    if (typeof given !== 'object') throw new StintError('E_BAD_CONFIG', `${section} must be a section: [${section}]`)
    const values: Record<string, unknown> = {}
    for (const [key, value] of Object.entries(given)) {
      const setting = Object.hasOwn(keys, key) ? keys[key] : undefined
      if (setting === undefined) throw new StintError('E_BAD_CONFIG', `unknown key ${section}.${key}; did you mean ${section}.${nearest(key, Object.keys(keys))}?`)
      if (!sameType(value, setting.default)) {
        throw new StintError('E_BAD_CONFIG', `${section}.${key} must be like ${JSON.stringify(setting.default)}, not ${JSON.stringify(value)}`)
      }
      values[key] = value
    }
    for (const [key, setting] of Object.entries(keys)) values[key] ??= setting.default
    resolved[section] = values
  }
  return resolved as unknown as Config
}

/** The configuration as TOML with the meaning of every key above it. */
export function printConfig(config: Config): string {
  const lines: string[] = []
  for (const [section, keys] of Object.entries(settings)) {
    lines.push(`[${section}]`)
    const values: Record<string, unknown> = config[section as keyof Config]
    for (const [key, setting] of Object.entries(keys)) lines.push(`# ${(setting as { doc: string }).doc}`, `${key} = ${JSON.stringify(values[key])}`)
    lines.push('')
  }
  return lines.join('\n')
}
