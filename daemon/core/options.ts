import { StintError } from './errors.ts'

/** What the user may write after `--stint=`. */
export interface RunOptions {
  /** `private`: own network namespace, outbound traffic through NAT; `host`: the node's own network. */
  readonly net: 'private' | 'host'
  /** `doorbell`: SIGUSR1 to the batch task asks for a checkpoint; `pass`: it goes to the script. */
  readonly signal: 'doorbell' | 'pass'
}

export const defaultOptions: RunOptions = { net: 'private', signal: 'doorbell' }

const known: { readonly [K in keyof RunOptions]: readonly RunOptions[K][] } = { net: ['private', 'host'], signal: ['doorbell', 'pass'] }

/**
 * Parses `key=value,key=value`.
 * @throws StintError E_BAD_OPTION naming the first unknown key or value
 */
export function parseOptions(text: string): RunOptions {
  const options: Record<string, string> = { ...defaultOptions }
  for (const part of text.split(',').filter((p) => p !== '')) {
    const [key = '', value = ''] = part.split('=', 2)
    const values: readonly string[] | undefined = Object.hasOwn(known, key) ? known[key as keyof RunOptions] : undefined
    if (!values?.includes(value)) throw new StintError('E_BAD_OPTION', `--stint does not know "${part}"`)
    options[key] = value
  }
  return options as unknown as RunOptions
}
