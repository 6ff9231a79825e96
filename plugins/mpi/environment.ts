import type { SandboxFacts } from './launcher.ts'
import { mpich } from './mpich.ts'
import { openmpi } from './openmpi.ts'
import { ucx } from './ucx.ts'

const launchers = [mpich, openmpi, ucx]

/** Variables for a sandbox, of every launcher we know: the job may use any. */
export function mpiEnvironment(facts: SandboxFacts): Record<string, string> {
  return Object.assign({}, ...launchers.map((launcher) => launcher.environment(facts))) as Record<string, string>
}
