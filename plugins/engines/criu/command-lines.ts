import type { DumpRequest, EngineTarget, RestoreRequest } from '../engine.ts'
import type { BarrierAction } from './barrier.ts'
import { dumpCapabilities, restoreCapabilities } from './capabilities.ts'

export interface CriuPrograms {
  readonly criu: string
  readonly nsenter: string
  readonly setpriv: string
  readonly unshare: string
  readonly libexecDir: string
}

type Argv = [string, ...string[]]

/**
 * Into the sandbox's namespaces, so that they need no describing in the image. Not its IPC namespace: CRIU dumps SysV
 * objects only when the target's differs from its own. `unshare` without a namespace forks into them and waits. nsenter
 * would, too, but it stops with its child and is root's: a user who stops CRIU could keep the sandbox from ever ending,
 * for its namespace's last zombie would find no one to reap it.
 */
function enter(programs: CriuPrograms, target: EngineTarget): Argv {
  return [programs.nsenter, ...target.pid1.enter('pid', 'mnt', 'net?', 'uts'), '--wd=/', '--no-fork', '--', programs.unshare, '--fork', '--']
}

export function capabilityList(names: readonly string[], prefix = ''): string {
  return [`-all`, ...names.map((name) => `+${prefix}${name}`)].join(',')
}

const common = ['--no-default-config', '--manage-cgroups=ignore', '--tcp-established', '--network-lock=skip', '-v4']

/**
 * CRIU with nothing but these capabilities. `noroot` takes from uid 0 what it has by its number, so that the ambient set is all there
 * is; with `no_setuid_fixup` it stays when criu-shim.so changes ids. Not by a bounding set: a restored job would inherit CRIU's for good.
 */
function withCapabilities(programs: CriuPrograms, groups: readonly number[], names: readonly string[]): Argv {
  const set = capabilityList(names)
  const supplementary = groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`
  return [programs.setpriv, supplementary, '--securebits=+noroot,+no_setuid_fixup', `--inh-caps=${set}`, `--ambient-caps=${set}`, '--']
}

/** Dump with the user's effective and file system ids, which criu-shim.so takes; real and saved ids are root's, out of the user's reach. */
export function dumpArgv(programs: CriuPrograms, request: DumpRequest): Argv {
  return [
    ...enter(programs, request),
    ...withCapabilities(programs, request.groups, dumpCapabilities),
    programs.criu, 'dump', '--unprivileged', '--tree', String(request.rootPid), '--images-dir', `${request.directory}/criu`,
    '--work-dir', request.runDirectory, '--log-file', 'dump.log',
    ...common, '--file-locks', '--ghost-limit', '64G', '--link-remap', '--action-script', `${programs.libexecDir}/stint-barrier`,
    ...(request.keepRunning ? ['--leave-running'] : []),
    // By default CRIU opens every regular file that is open to look for a build id, and compares that at the restore.
    ...(request.unseen ? ['--file-validation', 'filesize'] : []),
  ] as Argv
}

/** The barrier as the action script finds it. */
function barrierEnvironment(action: BarrierAction, socket: string, seconds: number): Record<string, string> {
  return { STINT_BARRIER: socket, STINT_BARRIER_ACTION: action, STINT_BARRIER_TIMEOUT: String(Math.ceil(seconds)) }
}

/** Who CRIU is to the file system, and its own directories, which it enters as root (criu_identity.c, criu_paths.c). */
function identityEnvironment(programs: CriuPrograms, verb: 'dump' | 'restore', { uid, gid }: EngineTarget, directory: string, workDirectory: string): Record<string, string> {
  return { LD_PRELOAD: `${programs.libexecDir}/criu-shim.so`, STINT_ACT_AS: `${verb}:${uid}:${gid}`, STINT_IMAGES: `${directory}/criu`, STINT_WORK: workDirectory }
}

/** Also how large a file may become (criu_bounds.c). */
export function dumpEnvironment(programs: CriuPrograms, request: DumpRequest, barrierSocket: string): Record<string, string> {
  return {
    ...identityEnvironment(programs, 'dump', request, request.directory, request.runDirectory), STINT_FILE_LIMIT: String(Math.min(request.limitBytes, Number.MAX_SAFE_INTEGER)),
    ...barrierEnvironment('post-dump', barrierSocket, request.barrierSeconds),
  }
}

/** In a restore's working directory: files.img with other paths (criu_paths.c). */
export const changedFilesName = 'files.img'

/** The second barrier is in CRIU itself (criu_release.c). */
export function restoreEnvironment(programs: CriuPrograms, request: RestoreRequest, barrierSocket: string): Record<string, string> {
  return {
    ...identityEnvironment(programs, 'restore', request, request.directory, request.workDirectory), ...(request.restored === undefined ? {} : { STINT_RELEASE: '1' }),
    ...((request.paths?.size ?? 0) === 0 ? {} : { STINT_FILES: `${request.workDirectory}/${changedFilesName}` }),
    ...barrierEnvironment('post-restore', barrierSocket, request.timeoutSeconds),
  }
}

/**
 * Restore with root's ids (it sets each task's identity) but the user's file system ids, which criu-shim.so takes, inside the step's
 * cgroups.
 * @param own capabilities of this daemon; setpriv refuses to pass on what it has not got
 */
export function restoreArgv(programs: CriuPrograms, request: RestoreRequest, own: ReadonlySet<string>): Argv {
  return [
    `${programs.libexecDir}/stint-init`, 'join', ...request.cgroups, '--',
    ...enter(programs, request),
    ...withCapabilities(programs, request.groups, restoreCapabilities.filter((name) => own.has(name))),
    programs.criu, 'restore', '--restore-detached', '--images-dir', `${request.directory}/criu`, '--work-dir', request.workDirectory,
    '--log-file', 'restore.log', ...common, ...(request.rehearsal === true ? [] : ['--file-locks']), '--action-script', `${programs.libexecDir}/stint-barrier`,
  ] as Argv
}
