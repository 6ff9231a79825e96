import { hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, constants, fstatSync, linkSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { StintError, asStintError, systemCode } from './core/errors.ts'
import { formatKeys, parseKeys, secretBytes, type KeyUse, type StoreKey, type StoreKeys } from './core/store-keys.ts'
import { syncPath, writeDurably } from './linux/durable.ts'

/** The file with the site's keys: root's alone, replaced as a whole. */

/** No honest file is longer: some hundred keys. */
const mostBytes = 65_536

/** By HKDF (RFC 5869) with a purpose of its own, so that the id tells nothing of what else is derived. */
function idOf(secret: Uint8Array): string {
  return Buffer.from(hkdfSync('sha256', secret, '', 'stint key id', 8)).toString('hex')
}

export function newKey(use: KeyUse): StoreKey {
  const secret = randomBytes(secretBytes)
  return { id: idOf(secret), use, secret, madeAt: new Date().toISOString() }
}

/**
 * @returns undefined where there is no file
 * @throws StintError E_BAD_CONFIG when it is not root's alone, a link, or not what was written
 */
export function readKeys(path: string): StoreKeys | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return undefined
    throw new StintError('E_BAD_CONFIG', `${path} cannot be read${systemCode(cause) === 'ELOOP' ? ': it is a link' : ''}`, { cause, hint: 'The key file must be a file of root with mode 0600.' })
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile() || stat.uid !== 0 || (stat.mode & 0o177) !== 0 || stat.size > mostBytes) {
      throw new StintError('E_BAD_CONFIG', `${path} must be a file of root with mode 0600`, { hint: `chown root:root ${path} && chmod 0600 ${path}; if others could read it, rotate: \`stint key rotate\`.` })
    }
    return parseKeys(readFileSync(fd, 'utf8'), idOf)
  } finally {
    closeSync(fd)
  }
}

/** Makes the file. @throws StintError E_BAD_REQUEST when it is there: keys are never overwritten */
export function createKeys(path: string, keys: StoreKeys): void {
  const beside = `${path}.${randomBytes(4).toString('hex')}`
  try {
    writeFileSync(beside, formatKeys(keys), { mode: 0o600, flag: 'wx' })
    syncPath(beside)
    linkSync(beside, path) // Unlike a rename it fails where the name is taken.
    syncPath(dirname(path))
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') throw new StintError('E_BAD_REQUEST', `${path} is there already`, { cause, hint: 'A new key comes by `stint key rotate`, which keeps the old one for reading.' })
    throw new StintError('E_BAD_CONFIG', `${path} cannot be written: ${asStintError(cause).message}`, { cause, hint: 'Make its directory first, as root.' })
  } finally {
    rmSync(beside, { force: true })
  }
}

/** Replaces the keys by others. @throws StintError E_BAD_REQUEST without a file */
export function changeKeys(path: string, change: (keys: StoreKeys) => StoreKeys): StoreKeys {
  const keys = readKeys(path)
  if (keys === undefined) throw new StintError('E_BAD_REQUEST', `there is no key file ${path}`, { hint: 'Make one: `stint key init`.' })
  const changed = change(keys)
  writeDurably(path, formatKeys(changed))
  return changed
}

/**
 * The keys as a daemon uses them: the file is read again when it was replaced. One that cannot be used any more leaves those in
 * force that were read last, so that jobs are saved all the same; `fault` tells `stint doctor`.
 */
export class Keyring {
  readonly #path: string
  readonly #tell: (fault: StintError) => void
  #keys: StoreKeys
  #signature: string
  #fault: StintError | undefined

  /** @throws StintError E_BAD_CONFIG */
  constructor(path: string, tell: (fault: StintError) => void) {
    this.#path = path
    this.#tell = tell
    this.#signature = this.#look()
    this.#keys = readKeys(path) ?? []
  }

  #look(): string {
    const stat = statSync(this.#path, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? 'none' : [stat.dev, stat.ino, stat.size, stat.ctimeNs].join(':')
  }

  #load(): StoreKeys {
    const keys = readKeys(this.#path)
    if (keys === undefined && this.#keys.length > 0) throw new StintError('E_BAD_CONFIG', `${this.#path} is gone`, { hint: 'The keys in it stay in force until stintd starts again; copy the file from another node.' })
    return keys ?? []
  }

  current(): StoreKeys {
    const signature = this.#look()
    if (signature === this.#signature) return this.#keys
    this.#signature = signature
    try {
      this.#keys = this.#load()
      this.#fault = undefined
    } catch (error) {
      this.#fault = asStintError(error)
      this.#tell(this.#fault)
    }
    return this.#keys
  }

  /** Why the file cannot be used as it is now. */
  get fault(): StintError | undefined {
    this.current()
    return this.#fault
  }
}
