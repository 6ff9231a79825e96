import { readFileSync } from 'node:fs'
import { unlessGone } from './processes.ts'

export interface Mount {
  readonly id: number
  readonly mountPoint: string
  readonly type: string
}

/** Mount points escape blanks and backslashes as octal (proc(5)). */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
}

export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ')
    const fields = before?.split(' ') ?? []
    const mountPoint = fields[4]
    const type = after?.split(' ')[0]
    return mountPoint === undefined || type === undefined ? [] : [{ id: Number(fields[0]), mountPoint: unescapeOctal(mountPoint), type }]
  })
}

/** Mounts as a process sees them, in mount order; empty when it has ended. */
export function mountsOf(pid: number): Mount[] {
  return parseMounts(unlessGone(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8')) ?? '')
}

export function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

/** The mount a path lies on: the longest mount point, the latest of equals. */
export function mountOfPath(mounts: readonly Mount[], path: string): Mount | undefined {
  return mounts.reduce<Mount | undefined>((best, mount) => (isBelow(path, mount.mountPoint) && mount.mountPoint.length >= (best?.mountPoint.length ?? 0) ? mount : best), undefined)
}
