import { InvalidArgumentError, type Command } from 'commander'
import type { AuditView } from '../http/schemas.ts'
import { call } from './client.ts'
import { table } from './format.ts'
import { globalOptions, jobId, print } from './verb.ts'

const unitMilliseconds: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `90m`, `12h`, `7d` ago, or an instant as ISO 8601 has it. @returns milliseconds since 1970 @throws InvalidArgumentError */
function instant(text: string): number {
  const [, number, unit = ''] = /^(\d{1,6})([mhd])$/.exec(text) ?? []
  const at = number === undefined ? Date.parse(text) : Date.now() - Number(number) * (unitMilliseconds[unit] ?? 0)
  if (Number.isNaN(at)) throw new InvalidArgumentError('90m, 12h, 7d, or a time such as 2026-11-23T20:15.')
  return Math.max(0, at)
}

function who({ uid, pid, channel }: AuditView): string {
  return uid === null ? channel : `uid ${uid}${pid === null ? '' : ` (PID ${pid})`} by ${channel}`
}

function text(entries: readonly AuditView[]): string {
  if (entries.length === 0) return 'Nothing on record.'
  return table(['AT (UTC)', 'WHO', 'ACTION', 'JOB', 'USER', 'CHECKPOINT', 'OUTCOME', 'IMAGE'], entries.map((one) => [
    new Date(one.at).toISOString().slice(0, 19), who(one), one.action, one.job === null ? '-' : String(one.job), one.user ?? '-',
    one.checkpoint === null ? '-' : String(one.checkpoint), one.outcome, one.image?.slice(0, 12) ?? '-',
  ]))
}

export function auditCommand(program: Command): void {
  program
    .command('audit')
    .description('who has saved, restored, removed or drained what on this node: your own; as root everything')
    .option('--job <job>', 'of this job', jobId)
    .option('--since <time>', 'from then on: 90m, 12h or 7d ago, or 2026-11-23T20:15', instant)
    .option('--user <name>', 'of jobs of this user')
    .action(async (options: { job?: number; since?: number; user?: string }, command: Command) => {
      const global = globalOptions(command)
      const query = new URLSearchParams(Object.entries(options).filter(([key]) => ['job', 'since', 'user'].includes(key)).map(([key, value]): [string, string] => [key, String(value)]))
      const entries = await call<AuditView[]>(global.socket, 'GET', `/v1/audit${query.size === 0 ? '' : `?${query.toString()}`}`)
      print(global, entries, text)
    })
}
