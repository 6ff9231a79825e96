import type { Context, Sandbox } from '../context.ts'

/** As long as any job runs. */
const always = 1_000_000

/** Of a run over several nodes its coordinator is asked about every end: a node may be lost at any time. Its crashes are not followed up. */
export function settleSeconds(context: Context, sandbox: Sandbox): number {
  if (sandbox.hosts.length === 1) return context.config.restore.settle_seconds
  return sandbox.coordinator === undefined ? always : 0
}
