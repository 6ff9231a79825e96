import { createHmac } from 'node:crypto'

/**
 * known_hosts files as OpenSSH reads them (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), for one question: which keys may a host
 * show? Certificates are not supported: `@cert-authority` lines are passed over.
 */

export interface KnownHostKey {
  readonly type: string
  /** As the host shows it (RFC 4253, 6.6), in base64. */
  readonly key: string
  readonly file: string
  readonly line: number
}

export interface KnownHost {
  readonly trusted: readonly KnownHostKey[]
  readonly revoked: readonly KnownHostKey[]
}

interface Entry extends KnownHostKey {
  readonly hosts: string
  readonly marker: string | undefined
}

/** Patterns of OpenSSH: `*` and `?`, nothing else is special. */
function matchesPattern(pattern: string, name: string): boolean {
  const expression = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')
  return new RegExp(`^${expression}$`, 'i').test(name)
}

/** `|1|SALT|HASH`: HMAC-SHA1 of the name, which stands there in lower case. */
function matchesHash(hosts: string, name: string): boolean {
  const [, version, salt = '', hash] = hosts.split('|')
  return version === '1' && createHmac('sha1', Buffer.from(salt, 'base64')).update(name.toLowerCase()).digest('base64') === hash
}

/** A negated pattern that matches takes the whole line away from this host. */
function matchesHosts(hosts: string, name: string): boolean {
  if (hosts.startsWith('|')) return matchesHash(hosts, name)
  const patterns = hosts.split(',')
  if (patterns.some((pattern) => pattern.startsWith('!') && matchesPattern(pattern.slice(1), name))) return false
  return patterns.some((pattern) => !pattern.startsWith('!') && matchesPattern(pattern, name))
}

/** Lines that are no entry are passed over, as OpenSSH does. */
export function parseKnownHosts(text: string, file: string): Entry[] {
  return text.split('\n').flatMap((content, index) => {
    const fields = content.trim().split(/\s+/)
    if (fields[0]?.startsWith('#') === true) return []
    const marker = fields[0]?.startsWith('@') === true ? fields.shift() : undefined
    const [hosts, type, encoded] = fields
    if (hosts === undefined || type === undefined || encoded === undefined) return []
    return [{ marker, hosts, type, key: Buffer.from(encoded, 'base64').toString('base64'), file, line: index + 1 }]
  })
}

/** The names a host may stand under, best first: with the port, where it is not 22, before without. */
export function knownNames(names: readonly string[], port: number): string[] {
  return [...new Set(names)].flatMap((name) => (port === 22 ? [name] : [`[${name}]:${port}`, name]))
}

/**
 * What the files say of a host. Keys of the first name that has any count, so that a key of the address cannot stand in for
 * one of the name; keys revoked for any of the names are revoked.
 */
export function findHost(entries: readonly Entry[], names: readonly string[]): KnownHost {
  const trusted = names.map((name) => entries.filter((entry) => entry.marker === undefined && matchesHosts(entry.hosts, name))).find((found) => found.length > 0) ?? []
  const revoked = entries.filter((entry) => entry.marker === '@revoked' && names.some((name) => matchesHosts(entry.hosts, name)))
  return { trusted, revoked }
}

/** Signature algorithms that make a host show a key of a type; RSA never with SHA-1. */
const signatures: Readonly<Record<string, readonly string[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
}

/** What to offer a host, so that it shows one of the keys that are known of it. */
export function hostKeyAlgorithms(host: KnownHost): string[] {
  const types = new Set(host.trusted.map((key) => key.type))
  return Object.entries(signatures).flatMap(([type, algorithms]) => (types.has(type) ? algorithms : []))
}

/** Whether a host may show this key. */
export function judgeHostKey(host: KnownHost, shown: Buffer): 'trusted' | 'unknown' | { readonly revokedBy: KnownHostKey } {
  const key = shown.toString('base64')
  const revokedBy = host.revoked.find((candidate) => candidate.key === key)
  if (revokedBy !== undefined) return { revokedBy }
  return host.trusted.some((candidate) => candidate.key === key) ? 'trusted' : 'unknown'
}
