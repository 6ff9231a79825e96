import type { Obstacle } from './obstacles.ts'

/**
 * Names that the payload still uses and that are gone: deleted files, directories, sockets. CRIU makes each anew by its path for a moment,
 * as the user. Where the user may make no name, the copy gets its path below the sandbox's own /tmp; what cannot be copied is refused.
 */

/** What `stint-init files names` says of a path: it can be made; somebody has it; its directory is gone; the user may make nothing there. */
export type NameState = 'free' | 'taken' | 'orphan' | 'closed'

/** @param answer of the helper; what it could not tell is tried elsewhere */
export function readNameState(answer: string | undefined): NameState {
  return answer === 'free' || answer === 'taken' || answer === 'orphan' ? answer : 'closed'
}

/** Longest name of a Unix socket, and the longest path that CRIU can still put a suffix behind. */
const longest = { socket: 107, path: 4000, name: 200 } as const

export interface DeletedPath {
  readonly kind: 'file' | 'directory' | 'socket'
  readonly path: string
}

/**
 * Where CRIU is to make a name, or undefined where it can be made at its own path. It does so for a file below a directory that is gone,
 * too, and for one whose name is taken. A directory would be made with those above it, which then stay; one that is there would be taken
 * for it and removed.
 * @param place directory where the user can make names, without a slash at its end
 * @param number makes the name another than all others
 */
export function otherPath({ kind, path }: DeletedPath, state: NameState, place: string, number: number): string | undefined {
  const fits = kind === 'directory' ? state === 'free' : kind === 'socket' ? state === 'free' || state === 'orphan' : state !== 'closed'
  if (fits) return undefined
  const last = path.slice(path.lastIndexOf('/') + 1)
  const flat = `${place}/.stint-deleted-${number}-${last.slice(-longest.name)}`
  if (kind === 'directory') return flat
  if (kind === 'socket') return flat.length <= longest.socket ? flat : `${place}/.stint-deleted-${number}`
  const whole = `${place}/.stint-deleted${path}`
  return whole.length <= longest.path ? whole : flat
}

/** A file of the payload that has lost a name, as all its holders have it. */
export interface DeletedFile {
  readonly path: string
  readonly pid: number
  readonly comm: string
  /** Names that are left. */
  readonly links: number
  /** Somebody holds it for writing, by a descriptor or a shared mapping. */
  readonly written: boolean
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly bytes: number
  readonly state: NameState
}

/** Whether modes and owner let somebody read, as the kernel decides without any capability. */
function mayAccess({ mode, uid, gid }: DeletedFile, user: UserIds, bits: number): boolean {
  const shift = uid === user.uid ? 6 : gid === user.gid || user.groups.includes(gid) ? 3 : 0
  return ((mode >> shift) & bits) === bits
}

export interface UserIds {
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
}

/** Whether CRIU can give a removed name back by a link, as the user (fs.protected_hardlinks). */
function canBeLinked(file: DeletedFile, user: UserIds): boolean {
  return (file.state === 'free' || file.state === 'orphan') && (file.uid === user.uid || mayAccess(file, user, 6))
}

/** What keeps deleted files from being saved or restored. @param limitBytes of all together that must be copied into memory */
export function deletedObstacles(files: readonly DeletedFile[], user: UserIds, limitBytes: number): Obstacle[] {
  const copied = files.filter((file) => file.links === 0 || !canBeLinked(file, user))
  const who = ({ comm, pid }: DeletedFile): string => `${comm} (PID ${pid} in the sandbox)`
  const obstacles = copied.flatMap((file): Obstacle[] => {
    if (file.links > 0 && file.written) {
      return [{
        kind: 'removed-name', message: `${who(file)} writes to ${file.path}, a name that was removed while the file has another one, where you may not make it again`,
        remedy: 'Let the program close the file, or open it by the name that is left; or get write permission for the directory.',
      }]
    }
    return mayAccess(file, user, 4) ? [] : [{
      kind: 'unreadable-file', message: `${who(file)} holds ${file.path}, which was removed and which you may not read: it cannot be copied into a checkpoint`,
      remedy: 'Let the program close the file, or start it again where its program or library was replaced.',
    }]
  })
  const moved = copied.filter(({ state }) => state === 'closed').reduce((sum, { bytes }) => sum + bytes, 0)
  if (moved <= limitBytes) return obstacles
  return [...obstacles, {
    kind: 'carry-limit', message: `removed files in directories where you may not write hold ${Math.round(moved / 1e6)} MB, more than files.carry_limit_mb; they would come back in /tmp of the job`,
    remedy: 'Let the program close them, or keep large files in a directory of yours.',
  }]
}

/** How a move changes what is seen of them, for the job's owner. @param text the path as people read it */
export function deletedNotice(text: string, moved: string | undefined, foreign: boolean): string | undefined {
  const changes = [...(moved === undefined ? [] : [`is ${moved} (deleted) in /proc now, since you may make no name where it was`]), ...(foreign ? ['belongs to you now'] : [])]
  return changes.length === 0 ? undefined : `not as it was before the move: ${text}, which was removed, ${changes.join(', and ')}`
}
