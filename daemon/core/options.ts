import { StintError } from './errors.ts'
import { cronForm, everyForm } from './schedule.ts'

/** What the user may write after `--stint=`. */
export interface RunOptions {
  /** `private`: own network namespace, outbound traffic through NAT; `host`: the node's own network. */
  readonly net: 'private' | 'host'
  /** `doorbell`: SIGUSR1 to the batch task asks for a checkpoint; `pass`: it goes to the script. */
  readonly signal: 'doorbell' | 'pass'
  /** Files that no restore may put back: glob patterns between colons, of whole paths or (without a slash) of names. */
  readonly norollback: string
  /** When no checkpoint can be restored: hold the job, or run its script from the start; undefined: as the site has it. */
  readonly fallback: 'hold' | 'start' | undefined
  /** `submit`: a job that Slurm may not requeue goes on as a new one. */
  readonly continue: 'requeue' | 'submit'
  /** Checkpoints that the job runs on after, by interval; empty: as the site has it. */
  readonly every: string
  /** The same by the clock: a cron expression with `_` for blanks and `+` for commas; empty: none. */
  readonly cron: string
}

export const defaultOptions: RunOptions = { net: 'private', signal: 'doorbell', norollback: '', fallback: undefined, continue: 'requeue', every: '', cron: '' }

/**
 * A key has a list of words, or a free value that an expression matches as a whole. The plugin has the same table
 * (plugins/spank/plugin/options.c); expressions use only what POSIX and JavaScript read alike.
 */
export const knownOptions: { readonly [K in keyof RunOptions]: readonly NonNullable<RunOptions[K]>[] | RegExp } = {
  net: ['private', 'host'],
  signal: ['doorbell', 'pass'],
  norollback: /^(\/[^:]*|[^/:]+)(:(\/[^:]*|[^/:]+))*$/,
  fallback: ['hold', 'start'],
  continue: ['requeue', 'submit'],
  every: everyForm,
  cron: cronForm,
}

/** OPTIONS_MAX in plugins/spank/options.h counts the end of the text as well. */
export const longestOptions = 511

function accepts(key: string, value: string): boolean {
  const rule: readonly string[] | RegExp | undefined = Object.hasOwn(knownOptions, key) ? knownOptions[key as keyof RunOptions] : undefined
  return rule instanceof RegExp ? rule.test(value) : (rule?.includes(value) ?? false)
}

/**
 * Parses `key=value,key=value`.
 * @throws StintError E_BAD_OPTION for too long a text, or naming the first part with an unknown key or value, or with a key for the second time
 */
export function parseOptions(text: string): RunOptions {
  if (Buffer.byteLength(text) > longestOptions) throw new StintError('E_BAD_OPTION', 'what stands after --stint= is too long')
  const given = new Map<string, string>()
  const parts = text.split(',')
  if (parts.at(-1) === '') parts.pop()
  for (const part of parts) {
    const at = part.indexOf('=')
    const [key, value] = at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)]
    if (!accepts(key, value)) throw new StintError('E_BAD_OPTION', `--stint does not know "${part}"`)
    if (given.has(key)) throw new StintError('E_BAD_OPTION', `--stint got a key twice: "${part}"`)
    given.set(key, value)
  }
  return { ...defaultOptions, ...Object.fromEntries(given) }
}
