import type { Command } from 'commander'
import type { ReclaimView } from '../http/schemas.ts'
import { call } from './client.ts'
import { bytes, table } from './format.ts'
import { globalOptions, print } from './verb.ts'

function text(found: readonly ReclaimView[], dryRun: boolean): string {
  if (found.length === 0) return 'Nothing to reclaim.'
  const rows = found.map((one) => [String(one.job), one.user ?? '-', one.what, bytes(one.bytes), one.reason])
  const total = bytes(found.reduce((sum, one) => sum + one.bytes, 0))
  return `${table(['JOB', 'USER', 'WHAT', 'SIZE', 'WHY'], rows)}\n${total} ${dryRun ? 'would be freed' : 'freed'}.`
}

export function reclaimCommand(program: Command): void {
  program
    .command('reclaim')
    .description('remove images of jobs that are over: your own; as root everybody\'s, and what dead nodes left unfinished')
    .option('--dry-run', 'only say what would go', false)
    .option('--now', 'do not wait until they are as old as the site keeps them', false)
    .action(async (options: { dryRun: boolean; now: boolean }, command: Command) => {
      const global = globalOptions(command)
      const found = await call<ReclaimView[]>(global.socket, 'POST', '/v1/reclaim', { dryRun: options.dryRun, now: options.now })
      print(global, found, (all) => text(all, options.dryRun))
    })
}
