import type { Command } from 'commander'
import type { RunView } from '../http/schemas.ts'
import { call } from './client.ts'
import { bytes, clock, seconds, table, waitStatus } from './format.ts'
import { globalOptions, jobId, print } from './verb.ts'

function overview(runs: readonly RunView[]): string {
  if (runs.length === 0) return 'No runs on this node.'
  return table(
    ['JOB', 'USER', 'STATE', 'NODE', 'STINT', 'SAVED', 'NEXT SAVE', 'WALLTIME ENDS', 'END'],
    runs.map((run) => [
      String(run.job), run.user, run.state, run.node === null ? '-' : run.nodes.length > 1 ? run.nodes.join(',') : run.node, String(run.stints.length + 1), String(run.checkpoints.filter((c) => ['sealed', 'requeued', 'committed'].includes(c.state)).length),
      clock(run.savedAt), clock(run.walltimeEndsAt), waitStatus(run.waitStatus),
    ]),
  )
}

/** When it will be saved, and why then. */
function planned(run: RunView): string[] {
  const { plan } = run
  const periodic = run.periodicAt === null ? [] : [`Periodic: next at ${clock(run.periodicAt)}; the job runs on.`]
  if (plan === null) return periodic
  const basis = plan.measured === 0 ? 'by the assumed rate, as none was measured here' : `median of ${plan.measured} on this node, spread ${seconds(plan.spreadSeconds)}`
  const needs = `${bytes(plan.bytes)} take about ${seconds(plan.seconds)} (${basis})`
  if (run.savedAt === null) return [`Now: ${needs}. The job has no time limit.`, ...periodic]
  const beside = plan.besideSeconds === 0 ? '' : `, ${seconds(plan.besideSeconds)} for jobs that end with it`
  return [`Walltime: saved at ${clock(run.savedAt)}, as it ends at ${clock(run.walltimeEndsAt)}: ${needs}${beside}, ${plan.safety} times the spread and ${seconds(plan.marginSeconds)} are kept free.`, ...periodic]
}

/** The last rehearsal, as the daemon has it on record (run/rehearsal.ts). */
function rehearsed(run: RunView): string[] {
  const last = run.events.findLast(({ kind }) => kind === 'rehearsed')?.detail
  if (last === undefined) return []
  return [last['outcome'] === 'passed'
    ? `Rehearsed: checkpoint ${String(last['checkpoint'])} could be restored; tried in ${seconds(Number(last['seconds']))}.`
    : `Not rehearsed: checkpoint ${String(last['checkpoint'])}: ${String(last['reason'])}.`]
}

function detail(run: RunView): string {
  const parts = [overview([run])]
  const plans = planned(run)
  if (plans.length > 0) parts.push('', ...plans)
  parts.push(...rehearsed(run))
  if (run.error !== null) parts.push(`\nLast refusal${run.state === 'ended' ? ' before it ended' : ''}: ${run.error}`)
  const notices = run.events.flatMap(({ kind, detail: { text } }) => (kind === 'notice' && typeof text === 'string' ? [`Notice: ${text}`] : []))
  if (notices.length > 0) parts.push('', ...notices)
  if (run.stints.length > 0) {
    parts.push('', 'Stints before this one', table(
      ['STINT', 'NODE', 'FROM', 'TO', 'TRIGGER', 'CHECKPOINT', 'SIZE', 'TIME'],
      run.stints.map((s, i) => [String(i + 1), s.node, clock(s.startedAt), clock(s.endedAt), s.trigger, String(s.checkpoint), bytes(s.bytes), seconds(s.seconds)]),
    ))
  }
  if (run.checkpoints.length > 0) {
    parts.push('', 'Checkpoints made on this node', table(
      ['NO', 'TRIGGER', 'STATE', 'AT', 'SIZE', 'TIME', 'FROZEN', 'REASON'],
      run.checkpoints.map((c) => [
        String(c.number), c.trigger, c.keepRunning ? `${c.state} (kept running)` : c.state, clock(c.startedAt), bytes(c.bytes), seconds(c.seconds), c.frozenMs === null ? '-' : `${c.frozenMs} ms`, c.error ?? '',
      ]),
    ))
  }
  return parts.join('\n')
}

export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('runs on this node, or one in detail')
    .argument('[job]', 'Slurm job id', jobId)
    .action(async (job: number | undefined, _options: unknown, command: Command) => {
      const global = globalOptions(command)
      if (job === undefined) {
        const runs = await call<RunView[]>(global.socket, 'GET', '/v1/runs')
        print(global, runs, overview)
      } else {
        const run = await call<RunView>(global.socket, 'GET', `/v1/runs/${job}`)
        print(global, run, detail)
      }
    })
}
