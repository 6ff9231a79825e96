import { bytes, clock, seconds as inSeconds, table } from '../../daemon/cli/format.ts'
import type { Stint } from './follow.ts'
import type { HplResult } from './linpack.ts'

/** What is known when the job has ended. */
export interface Facts {
  readonly job: number
  /** Ids of all jobs of this name that Slurm knows besides the trial. */
  readonly jobsInSlurm: readonly number[]
  readonly fields: ReadonlyMap<string, string>
  readonly stints: readonly Stint[]
  readonly solves: number
  readonly hpl: HplResult
}

export interface Check { readonly claim: string; readonly found: string; readonly holds: boolean }

/** Everything that must be true. */
export function judge({ job, jobsInSlurm, fields, stints, solves, hpl }: Facts): Check[] {
  const places = stints.map((stint) => stint.nodes.join('+'))
  const saved = stints.slice(0, -1)
  return [
    { claim: 'three stints or more', found: String(stints.length), holds: stints.length >= 3 },
    { claim: 'in three different places or more, never twice in a row in one', found: places.join(', '), holds: new Set(places).size >= 3 && places.every((place, i) => place !== places[i - 1]) },
    { claim: 'under one job id', found: jobsInSlurm.join(', '), holds: jobsInSlurm.length === 1 && jobsInSlurm[0] === job },
    { claim: 'every restart counted by Slurm', found: `Restarts=${fields.get('Restarts') ?? '?'}`, holds: Number(fields.get('Restarts')) === stints.length - 1 },
    { claim: 'every checkpoint made before the walltime', found: saved.map((stint) => stint.trigger).join(', '), holds: saved.length > 0 && saved.every((stint) => stint.trigger === 'walltime') },
    { claim: `HPL says PASSED for all ${solves} solutions`, found: `${hpl.passed} PASSED, ${hpl.failed} FAILED`, holds: hpl.passed === solves && hpl.failed === 0 },
    { claim: 'the exit code reached Slurm', found: `${fields.get('JobState') ?? '?'}, ExitCode=${fields.get('ExitCode') ?? '?'}`, holds: fields.get('JobState') === 'COMPLETED' && fields.get('ExitCode') === '0:0' },
  ]
}

export function checkTable(checks: readonly Check[]): string {
  return table(['', 'WHAT MUST BE TRUE', 'FOUND'], checks.map((check) => [check.holds ? 'ok' : 'FAULT', check.claim, check.found]))
}

export function stintTable(stints: readonly Stint[]): string {
  const rows = stints.map(({ number, nodes, from, to, trigger, checkpoint }) => [
    String(number), nodes.join(', '), clock(from), clock(to), trigger, inSeconds(checkpoint === undefined ? null : checkpoint.frozenMs / 1000), bytes(checkpoint?.bytes ?? null),
  ])
  return table(['STINT', 'NODES', 'FROM', 'TO', 'ENDED BY', 'FROZEN', 'IMAGE'], rows)
}

/** JSON with one line per fact. */
export function summary(facts: Facts, checks: readonly Check[], seconds: number): string {
  const { job, fields, stints, hpl } = facts
  const values = {
    good: checks.every((check) => check.holds),
    faults: checks.filter((check) => !check.holds).map((check) => check.claim),
    job,
    restarts: Number(fields.get('Restarts')),
    exitCode: fields.get('ExitCode'),
    hpl: { passed: hpl.passed, failed: hpl.failed },
    stints: stints.map(({ nodes, from, to, trigger, checkpoint }) => ({ nodes, from, to, trigger, bytes: checkpoint?.bytes, seconds: checkpoint?.seconds, frozenMs: checkpoint?.frozenMs })),
    seconds: Math.round(seconds),
  }
  return `{\n${Object.entries(values).map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(',\n')}\n}`
}
