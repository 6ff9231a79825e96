import type { Config } from '../core/config.ts'
import type { LookFacts, LookKind } from '../core/looks.ts'
import { CommandRunner } from '../linux/command.ts'
import { HeldProcess } from '../linux/held-process.ts'
import { serveHelper } from '../linux/helper-pool.ts'
import { makeLog } from '../linux/log.ts'
import type { Looked } from '../context.ts'
import { look } from './looks.ts'

/** A process that looks at payloads for the daemon (member/look-pool.ts starts it). */

export interface HelperSetup {
  readonly config: Config
  readonly node: string
}

export interface LookWork<K extends LookKind = LookKind> {
  readonly kind: K
  /** Its PID 1 by this path of the daemon's, for as long as the daemon holds it. */
  readonly sandbox: Omit<Looked, 'pid1'> & { readonly pid1: { readonly pid: number; readonly proc: string } }
  readonly facts: LookFacts[K]
}

serveHelper((setup) => {
  const { config, node } = setup as HelperSetup
  const log = makeLog()
  const context = { config, node, log, commands: new CommandRunner(log) }
  return async (work) => {
    const { kind, sandbox, facts } = work as LookWork
    using pid1 = HeldProcess.again(sandbox.pid1)
    return await look(context, kind, { ...sandbox, pid1 }, facts)
  }
})
