import { readFileSync } from 'node:fs'
import type { ProcessPlace } from './held-process.ts'
import { unlessGone } from './processes.ts'

export interface Mount {
  readonly id: number
  /** `major:minor` of the file system. */
  readonly device: string
  /** What of the file system is mounted. */
  readonly root: string
  readonly mountPoint: string
  readonly type: string
  /** Of this mount, such as `noexec`. */
  readonly options: readonly string[]
}

/** Mount points escape blanks and backslashes as octal (proc(5)). */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
}

export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ')
    const fields = before?.split(' ') ?? []
    const [id, , device, root, mountPoint, options = ''] = fields
    const type = after?.split(' ')[0]
    if (device === undefined || root === undefined || mountPoint === undefined || type === undefined) return []
    return [{ id: Number(id), device, root: unescapeOctal(root), mountPoint: unescapeOctal(mountPoint), type, options: options.split(',') }]
  })
}

/** Mounts as a process sees them, in mount order; empty when it has ended. */
export function mountsOf({ proc }: ProcessPlace): Mount[] {
  return parseMounts(unlessGone(() => readFileSync(`${proc}/mountinfo`, 'utf8')) ?? '')
}

export function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

/** The mount a path lies on: the longest mount point, the latest of equals. */
export function mountOfPath(mounts: readonly Mount[], path: string): Mount | undefined {
  return mounts.reduce<Mount | undefined>((best, mount) => (isBelow(path, mount.mountPoint) && mount.mountPoint.length >= (best?.mountPoint.length ?? 0) ? mount : best), undefined)
}

/**
 * Whether Slurm has given a job a directory of its own in this place (job_container/tmpfs and its like): another file system
 * than the node has there, and either memory or a directory named after the job. One that a user's jobs share is not the job's own.
 * @param ofTask mounts as the job's task sees them
 * @param ofNode mounts of the node
 */
export function isJobsOwn(path: string, jobId: number, ofTask: readonly Mount[], ofNode: readonly Mount[]): boolean {
  const [its, nodes] = [mountOfPath(ofTask, path), mountOfPath(ofNode, path)]
  if (its?.mountPoint !== path || (its.device === nodes?.device && its.root === nodes.root)) return false
  return (its.type === 'tmpfs' && its.root === '/') || its.root.split('/').some((part) => part === `${jobId}` || part === `.${jobId}`)
}
