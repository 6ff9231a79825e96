import { basename } from 'node:path'
import { dumpCapabilities } from './capabilities.ts'
import { capabilityList, type CriuPrograms } from './command-lines.ts'

/** criu-shim.so, which is preloaded into CRIU (plugins/spank/criu/criu_shim.c), and whether it is in force. */

/** What it mends, and the calls of CRIU by which it does: one of each must be taken. */
const mended = [
  { what: 'interrupted system calls', calls: ['ptrace'] },
  { what: 'paths looked up as root', calls: ['openat64', 'openat', '__openat64_2', '__openat_2'] },
  { what: 'expired timerfds', calls: ['__isoc23_sscanf', '__isoc99_sscanf', 'sscanf'] },
] as const

export function preloadPath(libexecDir: string): string {
  return `${libexecDir}/criu-shim.so`
}

/** Some user that is not root: file capabilities make a program ignore LD_PRELOAD (AT_SECURE) for any other than root. */
const nobody = 65_534

/** CRIU as a dump starts it, to the point where its symbols are bound: the dynamic loader of glibc tells on standard error where to. */
export function bindingsArgv(programs: CriuPrograms): readonly [string, ...string[]] {
  const set = capabilityList(dumpCapabilities)
  return [programs.setpriv, `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups', `--inh-caps=${set}`, `--ambient-caps=${set}`, '--', programs.criu, '--version']
}

export function bindingsEnvironment(programs: CriuPrograms): Record<string, string> {
  return { LD_PRELOAD: preloadPath(programs.libexecDir), LD_DEBUG: 'bindings', LD_BIND_NOW: '1' }
}

/**
 * What of CRIU is not mended although it should be, by what the loader told (`LD_DEBUG=bindings`).
 * @returns `loaded`: whether anything of a program other than setpriv is bound to the library at all
 */
export function unmended(bindings: string, programs: CriuPrograms): { loaded: boolean; missing: string[] } {
  const library = basename(preloadPath(programs.libexecDir))
  const taken = new Set([...bindings.matchAll(/binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `([^']+)'/g)].flatMap(([, from = '', to = '', call = '']) => (
    basename(to) === library && !/\.so(\.|$)/.test(from) && basename(from) !== basename(programs.setpriv) ? [call] : []
  )))
  return { loaded: taken.size > 0, missing: mended.filter(({ calls }) => !calls.some((call) => taken.has(call))).map(({ what }) => what) }
}
