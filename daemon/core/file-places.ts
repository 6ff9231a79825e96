/** Where an open file of the payload lives, which decides whether it will be there on another node. */
export type FilePlace = 'private' | 'shared' | 'kernel' | 'system' | 'local'

export interface FileRules {
  readonly sharedPaths: readonly string[]
  readonly systemPaths: readonly string[]
}

/** File systems that are one and the same on every node. */
const sharedTypes = new Set(['nfs', 'nfs4', 'lustre', 'gpfs', 'beegfs', 'ceph', 'cifs', 'smb3', '9p', 'virtiofs', 'orangefs', 'pvfs2', 'panfs', 'wekafs', 'afs', 'gfs2', 'ocfs2', 'fuse.cvmfs2', 'cvmfs'])
const kernelTypes = new Set(['proc', 'sysfs', 'devpts', 'devtmpfs', 'cgroup', 'cgroup2', 'mqueue', 'debugfs', 'tracefs', 'hugetlbfs', 'nsfs', 'pipefs', 'sockfs', 'securityfs'])
/** Trees that are the sandbox's own and travel with every image. */
export const carriedTrees = ['/tmp', '/dev/shm'] as const

export function isBelowAny(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => path === directory || path.startsWith(`${directory}/`))
}

/** @param mountType file system type of the mount the file lies on */
export function placeOf(path: string, mountType: string | undefined, writable: boolean, rules: FileRules): FilePlace {
  if (isBelowAny(path, carriedTrees)) return 'private'
  if (isBelowAny(path, rules.sharedPaths) || (mountType !== undefined && sharedTypes.has(mountType))) return 'shared'
  if ((mountType !== undefined && kernelTypes.has(mountType)) || isBelowAny(path, ['/proc', '/sys', '/dev'])) return 'kernel'
  if (path === '/' || (!writable && isBelowAny(path, rules.systemPaths))) return 'system'
  return 'local'
}
