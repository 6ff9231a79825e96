/** Types that the kernel or its helpers make for themselves. */
const internalTypes = new Set(['keyring', '.request_key_auth', 'dns_resolver', 'id_resolver', 'id_legacy', 'cifs.idmap'])

/**
 * Usable keys of a user, as `type description`. @param text of /proc/keys, read as this user: columns are serial, flags, usage, timeout,
 * permissions, uid, gid, type, then the description with a summary after its last colon
 */
export function keysOf(text: string, uid: number): string[] {
  return text.split('\n').flatMap((line) => {
    const match = /^[0-9a-f]+ (\S+) +\d+ +(\S+) [0-9a-f]+ +(\d+) +-?\d+ (\S+) +(.*)$/.exec(line)
    const [, flags = '', timeout, owner, type = '', rest = ''] = match ?? []
    const usable = flags.startsWith('I') && !/[RDNi]/.test(flags) && timeout !== 'expd'
    if (match === null || Number(owner) !== uid || !usable || internalTypes.has(type)) return []
    return [`${type} ${rest.replace(/: [^:]*$/, '')}`]
  })
}

/** Whether /proc/key-users counts anything for a user: without an entry there is no key to look for. */
export function hasKeys(keyUsers: string, uid: number): boolean {
  return new RegExp(`^ *${uid}:`, 'm').test(keyUsers)
}
