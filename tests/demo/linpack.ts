import { setTimeout as sleep } from 'node:timers/promises'
import { on, showJob } from '../support/cluster.ts'

/** High Performance Linpack as the users' example has it: two ranks on one node, or one rank on each of several. */

const script = '/opt/stint/slurm-scripts/examples/hpl.sh'
const home = '/shared/home/alice'
/** The matrix has 200 MB. */
export const order = 5000
const trialOrder = 2000
/** Seconds of work that the job is made for. */
const workSeconds = 200
/** How much longer hpcc's other benchmarks take for the job than the whole trial: 160 s beside 21 s were seen. */
const othersGrow = 7

export interface Problem { readonly order: number; readonly solves: number; readonly minutes: number; readonly nodes: number }
export interface Trial { readonly gigaflops: number; readonly solves: number }
export interface HplResult {
  /** HPL's own lines: figures and residual of each solution. */
  readonly lines: readonly string[]
  readonly passed: number
  readonly failed: number
}

export async function submitLinpack({ order, solves, minutes, nodes }: Problem): Promise<number> {
  // Ranks that wait leave the few cores of the machine below to those that compute.
  const environment = `HPL_N=${order} HPL_COUNT=${solves} OMPI_MCA_mpi_yield_when_idle=1`
  const shape = nodes === 1 ? '' : `--nodes=${nodes} --ntasks=${nodes}`
  return Number(await on('ctl', `cd ${home} && ${environment} sbatch --parsable --time=${minutes} ${shape} ${script}`, { user: 'alice' }))
}

/** What is left to read of a job; empty while there is nothing. */
export async function jobLog(job: number): Promise<string> {
  return on('ctl', `cat ${home}/hpl-${job}.log 2>/dev/null || true`)
}

/** hpccoutf.txt also says PASSED for PTRANS; HPL's own verdict is the line of the residual. */
export async function hplResult(job: number): Promise<HplResult> {
  const text = await on('ctl', `cat ${home}/hpl-${job}/hpccoutf.txt 2>/dev/null || true`)
  const lines = text.split('\n').filter((line) => /^WR\d|^\|\|Ax-b\|\|.*\.{6} /.test(line))
  return { lines, passed: lines.filter((line) => line.endsWith('PASSED')).length, failed: lines.filter((line) => line.endsWith('FAILED')).length }
}

/** Floating point operations of one solution, as HPL counts them. */
function operations(n: number): number {
  return (2 / 3) * n ** 3 + (3 / 2) * n ** 2
}

/** Solves one small system and finds out how many large ones make `workSeconds` of work on this machine, with all that hpcc does beside. */
export async function tryOut(signal: AbortSignal, nodes: number): Promise<Trial> {
  const job = await submitLinpack({ order: trialOrder, solves: 1, minutes: 5, nodes })
  let fields = await showJob(job)
  for (let state; (state = fields.get('JobState') ?? 'gone') !== 'COMPLETED'; fields = await showJob(job)) {
    if (!['PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING'].includes(state)) throw new Error(`the trial job ${job} ended as ${state}:\n${await jobLog(job)}`)
    await sleep(500, undefined, { signal })
  }
  const seconds = (Date.parse(fields.get('EndTime') ?? '') - Date.parse(fields.get('StartTime') ?? '')) / 1000
  const gigaflops = Number((await hplResult(job)).lines[0]?.split(/\s+/)[6])
  if (!(gigaflops > 0)) throw new Error(`the trial job ${job} has no result:\n${await jobLog(job)}`)
  // HPL takes a list of at most 20 problems. Few would not fill three stints, should the trial have been disturbed.
  const solvingSeconds = workSeconds - othersGrow * seconds
  return { gigaflops, solves: Math.min(20, Math.max(5, Math.ceil((solvingSeconds * gigaflops * 1e9) / operations(order)))) }
}
