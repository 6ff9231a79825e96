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
  return [programs.nsenter, `--target=${target.pid1}`, '--pid', '--mount', '--net', '--uts', '--wd=/', '--no-fork', '--', programs.unshare, '--fork', '--']
}

export function capabilityList(names: readonly string[], prefix = ''): string {
  return [`-all`, ...names.map((name) => `+${prefix}${name}`)].join(',')
}

const common = ['--no-default-config', '--manage-cgroups=ignore', '--tcp-established', '--network-lock=skip', '-v4']

/** Dump as the job's user with the ambient capabilities of capabilities.ts: root-only rights stay out of CRIU's hands. */
export function dumpArgv(programs: CriuPrograms, request: DumpRequest): Argv {
  const set = capabilityList(dumpCapabilities)
  return [
    ...enter(programs, request),
    programs.setpriv, `--reuid=${request.uid}`, `--regid=${request.gid}`, '--init-groups',
    `--inh-caps=${set}`, `--ambient-caps=${set}`, '--',
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

/** The barrier, and the interrupted-system-call shim. */
export function dumpEnvironment(programs: CriuPrograms, barrierSocket: string, barrierSeconds: number): Record<string, string> {
  return { LD_PRELOAD: `${programs.libexecDir}/criu-shim.so`, ...barrierEnvironment('post-dump', barrierSocket, barrierSeconds) }
}

/** The barriers (the second in CRIU itself: criu_release.c), and whose sockets the restored ones are (criu_owner.c). */
export function restoreEnvironment(programs: CriuPrograms, request: RestoreRequest, barrierSocket: string): Record<string, string> {
  return {
    LD_PRELOAD: `${programs.libexecDir}/criu-shim.so`, STINT_SOCKET_OWNER: `${request.uid}:${request.gid}`, ...(request.restored === undefined ? {} : { STINT_RELEASE: '1' }),
    ...barrierEnvironment('post-restore', barrierSocket, request.timeoutSeconds),
  }
}

/**
 * Restore as root (it sets each task's identity) with nothing but the capabilities of capabilities.ts, inside the step's
 * cgroups. Not by a bounding set: the restored job would inherit CRIU's for good. `noroot` takes from uid 0 what it has by
 * its number, so that the ambient set is all there is; with `no_setuid_fixup` it stays while sockets are made as the user.
 * @param own capabilities of this daemon; setpriv refuses to pass on what it has not got
 */
export function restoreArgv(programs: CriuPrograms, request: RestoreRequest, own: ReadonlySet<string>): Argv {
  const set = capabilityList(restoreCapabilities.filter((name) => own.has(name)))
  return [
    `${programs.libexecDir}/stint-init`, 'join', ...request.cgroups, '--',
    ...enter(programs, request),
    programs.setpriv, '--securebits=+noroot,+no_setuid_fixup', `--inh-caps=${set}`, `--ambient-caps=${set}`, '--',
    programs.criu, 'restore', '--restore-detached', '--images-dir', `${request.directory}/criu`, '--work-dir', request.workDirectory,
    '--log-file', 'restore.log', ...common, ...(request.rehearsal === true ? [] : ['--file-locks']), '--action-script', `${programs.libexecDir}/stint-barrier`,
  ] as Argv
}
