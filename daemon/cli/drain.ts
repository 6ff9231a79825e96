import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { DrainReport } from '../core/drain.ts'
import { errorKinds } from '../core/errors.ts'
import { call } from './client.ts'
import { bytes, seconds, table } from './format.ts'
import { globalOptions, print } from './verb.ts'

function text(report: DrainReport): string {
  if (report.jobs.length === 0) return `No jobs on ${report.node}; it is drained.`
  const rows = report.jobs.map((j) => [String(j.job), j.user, j.outcome, j.checkpoint === null ? '-' : String(j.checkpoint), bytes(j.bytes), seconds(j.seconds), j.error === null ? '' : `${j.error.code}: ${j.error.message}. ${j.error.hint}`])
  const saved = report.jobs.filter((j) => j.outcome === 'saved').length
  return `${table(['JOB', 'USER', 'OUTCOME', 'CHECKPOINT', 'SIZE', 'TIME', 'REASON'], rows)}\n${saved} of ${report.jobs.length} jobs saved and requeued; ${report.node} takes no new ones until \`scontrol update nodename=${report.node} state=resume\`.`
}

/** How far it is, on a terminal alone. */
async function showProgress(socket: string, node: string | undefined, signal: AbortSignal): Promise<void> {
  while (process.stderr.isTTY && !signal.aborted) {
    await sleep(1000, undefined, { signal }).catch(() => undefined)
    const report = await call<DrainReport>(socket, 'GET', node === undefined ? '/v1/drain' : `/v1/drain?node=${encodeURIComponent(node)}`).catch(() => undefined)
    if (report !== undefined) process.stderr.write(`\r${report.jobs.filter((j) => !['waiting', 'saving'].includes(j.outcome)).length} of ${report.jobs.length} jobs done`)
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
}

export function drainCommand(program: Command): void {
  program
    .command('drain')
    .description('before maintenance: set a node to drain in Slurm, save every job on it and put it back into the queue; root only')
    .argument('[node]', 'the node; this one by default')
    .option('--reason <text>', "for Slurm's records", 'stint drain')
    .action(async (node: string | undefined, options: { reason: string }, command: Command) => {
      const global = globalOptions(command)
      const done = new AbortController()
      const progress = showProgress(global.socket, node, done.signal)
      const report = await call<DrainReport>(global.socket, 'POST', '/v1/drain', { ...(node === undefined ? {} : { node }), reason: options.reason }).finally(async () => {
        done.abort()
        await progress
      })
      print(global, report, text)
      if (report.jobs.some((j) => j.outcome === 'failed')) process.exitCode = errorKinds.E_NOT_ALL_SAVED.exit
    })
}
