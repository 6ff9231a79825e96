import { mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { StintError, systemCode } from '../core/errors.ts'
import type { ProcessPlace } from './held-process.ts'
import { isBelow } from './mounts.ts'
import { unlessGone } from './processes.ts'

/** One line of /proc/PID/cgroup with the directory it stands for. */
export interface CgroupPlace {
  /** `freezer`, `memory`, ...; empty for the unified hierarchy. */
  readonly controllers: readonly string[]
  readonly directory: string
}

interface CgroupMount {
  readonly controllers: readonly string[]
  readonly mountPoint: string
  readonly root: string
}

const childName = 'stint'

/** Mounted hierarchies by /proc/self/mountinfo; v2 has no controllers in its list. */
export function parseCgroupMounts(mountinfo: string): CgroupMount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ')
    const fields = before?.split(' ') ?? []
    const [type, , superOptions] = after?.split(' ') ?? []
    const [root, mountPoint] = [fields[3], fields[4]]
    if (root === undefined || mountPoint === undefined) return []
    if (type === 'cgroup2') return [{ controllers: [], mountPoint, root }]
    if (type !== 'cgroup') return []
    return [{ controllers: (superOptions ?? '').split(',').filter((o) => o !== 'rw' && o !== 'ro'), mountPoint, root }]
  })
}

/** Where a process is in every mounted hierarchy. Paths come from the kernel, never from job ids: sites differ. */
export function parseCgroupPlaces(procCgroup: string, mounts: readonly CgroupMount[]): CgroupPlace[] {
  return procCgroup.split('\n').flatMap((line) => {
    const match = /^\d+:([^:]*):(.*)$/.exec(line)
    if (match === null) return []
    const controllers = (match[1] ?? '').split(',').filter((c) => c !== '')
    const path = match[2] ?? '/'
    const hierarchy = mounts.filter((m) => (controllers.length === 0 ? m.controllers.length === 0 : controllers.some((c) => m.controllers.includes(c))))
    // A container may show a part of a hierarchy only; what lies outside of it has no directory here.
    const mount = hierarchy.find((m) => isBelow(path, m.root))
    if (mount === undefined) return []
    return [{ controllers, directory: join(mount.mountPoint, mount.root === '/' ? path : path.slice(mount.root.length)) }]
  })
}

export function cgroupPlaces({ proc }: ProcessPlace): CgroupPlace[] | undefined {
  const text = unlessGone(() => readFileSync(`${proc}/cgroup`, 'utf8'))
  if (text === undefined) return undefined
  return parseCgroupPlaces(text, parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8')))
}

/** Whether Slurm put a process with these places into this step of this job. */
export function isInStep(places: readonly CgroupPlace[], jobId: number, step: string): boolean {
  return places.some((p) => p.directory.includes(`/job_${jobId}/`) && `${p.directory}/`.includes(`/step_${step}/`))
}

/**
 * The hierarchy slurmstepd signals by: the freezer under v1, the unified one under v2 (Slurm's step is there then).
 * @throws StintError E_NOT_VERIFIED when the process is in no step
 */
export function trackingPlace(places: readonly CgroupPlace[]): CgroupPlace {
  const steps = places.filter((p) => p.directory.includes('/step_'))
  const found = steps.find((p) => p.controllers.length === 0) ?? steps.find((p) => p.controllers.includes('freezer')) ?? steps[0]
  if (found === undefined) throw new StintError('E_NOT_VERIFIED', 'the process is in no cgroup of a Slurm step')
  return found
}

/**
 * Makes the payload's child cgroup of a step: slurmstepd signals the step's own processes only, so that the payload goes
 * on through a SIGTERM meant for the job.
 * @returns its directory
 */
export function makePayloadCgroup(place: CgroupPlace): string {
  const directory = join(place.directory, childName)
  mkdirSync(directory, { recursive: true })
  return directory
}

/** Where restored processes belong: the payload's cgroup, and the step's in every other hierarchy. */
export function placesForRestore(places: readonly CgroupPlace[], payloadCgroup: string): string[] {
  const parent = dirname(payloadCgroup)
  return places.map((place) => (place.directory === parent ? payloadCgroup : place.directory))
}

/** Whether the processes of a cgroup are frozen, by it or one above it: `freezer.state` under v1, `cgroup.events` under v2. */
export function isFrozen(directory: string): boolean {
  const read = (name: string): string => unlessGone(() => readFileSync(join(directory, name), 'utf8')) ?? ''
  return /^(FROZEN|FREEZING)$/m.test(read('freezer.state')) || /^frozen 1$/m.test(read('cgroup.events'))
}

/** Removes an empty cgroup; true when it is gone. */
function removeEmpty(directory: string): boolean {
  try {
    rmdirSync(directory)
  } catch (error) {
    return systemCode(error) === 'ENOENT'
  }
  return true
}

/** Removes the payload's cgroup; true when it is gone. False while killed processes still wait to be reaped. */
export function removePayloadCgroup(directory: string): boolean {
  return removeEmpty(directory)
}

/**
 * Removes Slurm's own directories above a payload's cgroup where slurmstepd could not: it gives up on a step whose
 * cgroup still had ours in it. Only what is empty goes; call when the step must be over.
 */
export function removeStepRemains(payloadCgroup: string): void {
  for (let at = dirname(payloadCgroup); /\/job_\d+/.test(at) && removeEmpty(at); at = dirname(at));
}
