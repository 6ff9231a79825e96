import type { Seen } from './rollback.ts'

/**
 * Files that the payload only reads. They stay where they are while the run waits, and may grow: the program then reads on in
 * the longer file, as it would have without a move. Another file of the same name is not what it had open.
 */

/** As it was while the payload was frozen. */
export interface ReadFile {
  readonly path: string
  readonly inode: number
  /** Where the payload reads, furthest of its descriptors; bytes. */
  readonly position: number
}

export interface OpenedFile {
  readonly fd: number | undefined
  readonly path: string
  readonly kind: string
  readonly deleted: boolean
  readonly writable: boolean
}

/**
 * Paths whose size and mode may change until the restore: shared regular files that are open for reading alone. What is mapped
 * must stay as it was, and what is open for writing is put back (core/rollback.ts).
 * @param isShared whether a path means the same file on every node
 */
export function readOnlyPaths(files: readonly OpenedFile[], isShared: (path: string) => boolean): string[] {
  const bound = new Set(files.filter(({ fd, writable }) => fd === undefined || writable).map(({ path }) => path))
  const candidates = files.filter(({ fd, kind, deleted, path }) => fd !== undefined && kind === 'file' && !deleted && !bound.has(path))
  return [...new Set(candidates.map(({ path }) => path))].filter(isShared)
}

/**
 * Why a file is not the one the payload was reading; undefined when it may go on there.
 * @param seen what is at its path now, as far as the job's user may look; whether that may open it, CRIU will say
 */
export function whyNotReadOn(file: ReadFile, seen: Seen): string | undefined {
  switch (seen.kind) {
    case 'failed': return undefined
    case 'missing': return `${file.path}, which the job was reading, no longer exists`
    case 'other': return `${file.path}, which the job was reading, was replaced by something else after the job was saved`
    case 'file':
      if (seen.inode !== String(file.inode)) return `${file.path}, which the job was reading, was replaced by another file after the job was saved`
      if (seen.bytes < file.position) return `${file.path} is shorter now (${seen.bytes} bytes) than where the job was reading (${file.position})`
      return undefined
  }
}
