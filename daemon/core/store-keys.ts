import { StintError } from './errors.ts'

/**
 * The keys of a site that vouch for its images, as /etc/stint/store.key has them. One of them seals, the others are accepted for
 * reading. A staged key (`next`) is accepted, too: it is on every node before the first image is sealed with it.
 */

export type KeyUse = 'seal' | 'read' | 'next'

export interface StoreKey {
  /** Follows from the secret and does not tell it: 16 hexadecimal digits. */
  readonly id: string
  readonly use: KeyUse
  /** 32 bytes. */
  readonly secret: Uint8Array
  /** When it was made, as in ISO 8601. */
  readonly madeAt: string
}

export type StoreKeys = readonly StoreKey[]

export const secretBytes = 32

const header = [
  "# Stint's store keys: use, id, when it was made, secret. Only root may read this file; every node needs the same one.",
  '# seal: new images are sealed with it. read: accepted. next: accepted, and sealed with after the next `stint key rotate`.',
]

/** The key that new images are sealed with; undefined while there is none. */
export function sealingKey(keys: StoreKeys): StoreKey | undefined {
  return keys.find(({ use }) => use === 'seal')
}

export function formatKeys(keys: StoreKeys): string {
  return `${[...header, ...keys.map(({ id, use, secret, madeAt }) => [use, id, madeAt, Buffer.from(secret).toString('base64')].join(' '))].join('\n')}\n`
}

/**
 * @param idOf derives a key's id from its secret
 * @throws StintError E_BAD_CONFIG that names the line, never its content
 */
export function parseKeys(text: string, idOf: (secret: Uint8Array) => string): StoreKeys {
  const keys: StoreKey[] = []
  for (const [at, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const match = /^(seal|read|next) ([0-9a-f]{16}) (\S+) ([A-Za-z0-9+/]{43}=)$/.exec(line)
    const secret = match?.[4] === undefined ? undefined : Buffer.from(match[4], 'base64')
    if (match === null || secret?.length !== secretBytes) throw new StintError('E_BAD_CONFIG', `line ${at + 1} of the store's keys is none that Stint wrote`)
    const [, use = '', id = '', madeAt = ''] = match
    if (idOf(secret) !== id) throw new StintError('E_BAD_CONFIG', `the secret of store key ${id} is not what was written`)
    if (keys.some((key) => key.id === id)) throw new StintError('E_BAD_CONFIG', `store key ${id} is there twice`)
    keys.push({ id, use: use as KeyUse, secret, madeAt })
  }
  for (const use of ['seal', 'next']) if (keys.filter((key) => key.use === use).length > 1) throw new StintError('E_BAD_CONFIG', `more than one store key is marked "${use}"`)
  if (keys.length === 0) throw new StintError('E_BAD_CONFIG', 'the file of the store\'s keys has no key')
  return keys
}

/** Adds a key that is accepted, and used from the next rotation on. @throws StintError E_BAD_REQUEST when one is staged already */
export function stage(keys: StoreKeys, made: StoreKey): StoreKeys {
  const staged = keys.find(({ use }) => use === 'next')
  if (staged !== undefined) throw new StintError('E_BAD_REQUEST', `key ${staged.id} is staged already`, { hint: 'Copy the key file to every node, then `stint key rotate`; or `stint key drop` that key first.' })
  return [...keys, { ...made, use: 'next' }]
}

/** The staged key, or else the new one, seals from now on; the one that did is accepted for reading. */
export function rotate(keys: StoreKeys, made: StoreKey): StoreKeys {
  const demoted = keys.map((key) => ({ ...key, use: key.use === 'seal' ? 'read' : key.use }) as const)
  if (!demoted.some(({ use }) => use === 'next')) return [{ ...made, use: 'seal' }, ...demoted]
  return demoted.map((key) => ({ ...key, use: key.use === 'next' ? 'seal' : key.use }) as const)
}

/** @throws StintError E_BAD_REQUEST for a key that is not there, or that seals */
export function drop(keys: StoreKeys, id: string): StoreKeys {
  const key = keys.find((one) => one.id === id)
  if (key === undefined) throw new StintError('E_BAD_REQUEST', `there is no store key ${id}`, { hint: '`stint key status` lists them.' })
  if (key.use === 'seal') throw new StintError('E_BAD_REQUEST', `new images are sealed with key ${id}`, { hint: 'Rotate first: `stint key rotate`.' })
  const left = keys.filter((one) => one !== key)
  if (left.length === 0) throw new StintError('E_BAD_REQUEST', `key ${id} is the only one`, { hint: 'Remove the key file by hand if this site is to have no key.' })
  return left
}
