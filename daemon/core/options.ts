import { StintError } from './errors.ts'

/** What the user may write after `--stint=`. */
export interface RunOptions {
  /** `private`: own network namespace, outbound traffic through NAT; `host`: the node's own network. */
  readonly net: 'private' | 'host'
  /** `doorbell`: SIGUSR1 to the batch task asks for a checkpoint; `pass`: it goes to the script. */
  readonly signal: 'doorbell' | 'pass'
  /** When no checkpoint can be restored: hold the job, or run its script from the start; undefined: as the site has it. */
  readonly fallback: 'hold' | 'start' | undefined
  /** `submit`: a job that Slurm may not requeue goes on as a new one. */
  readonly continue: 'requeue' | 'submit'
}

export const defaultOptions: RunOptions = { net: 'private', signal: 'doorbell', fallback: undefined, continue: 'requeue' }

const known: { readonly [K in keyof RunOptions]: readonly NonNullable<RunOptions[K]>[] } = {
  net: ['private', 'host'], signal: ['doorbell', 'pass'], fallback: ['hold', 'start'], continue: ['requeue', 'submit'],
}

/**
 * Parses `key=value,key=value`.
 * @throws StintError E_BAD_OPTION naming the first part with an unknown key or value, or with a key for the second time
 */
export function parseOptions(text: string): RunOptions {
  const given = new Map<string, string>()
  const parts = text.split(',')
  if (parts.at(-1) === '') parts.pop()
  for (const part of parts) {
    const at = part.indexOf('=')
    const [key, value] = at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)]
    const values: readonly string[] | undefined = Object.hasOwn(known, key) ? known[key as keyof RunOptions] : undefined
    if (!values?.includes(value)) throw new StintError('E_BAD_OPTION', `--stint does not know "${part}"`)
    if (given.has(key)) throw new StintError('E_BAD_OPTION', `--stint got a key twice: "${part}"`)
    given.set(key, value)
  }
  return { ...defaultOptions, ...Object.fromEntries(given) }
}
