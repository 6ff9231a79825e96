import { parseArgs } from 'node:util'
import { on } from '../support/cluster.ts'
import { Nodes, follow } from './follow.ts'
import { hplResult, order, submitLinpack, tryOut } from './linpack.ts'
import { minutes, Timeline } from './timeline.ts'
import { checkTable, judge, stintTable, summary, type Facts } from './verdict.ts'
import { withCluster } from './virtual-cluster.ts'

/** Three to five minutes of work, each minute of it followed by some seconds in the queue. */
const wholeRunSeconds = 600

/** One node for a job, or several: what differs between the two demonstrations. */
interface Stage { readonly virtualNodes: number; readonly jobNodes: number }
const stages = { single: { virtualNodes: 3, jobNodes: 1 }, mpi: { virtualNodes: 5, jobNodes: 3 } } as const satisfies Record<string, Stage>

/** From the trial to the facts, on a cluster that is up. */
async function demonstrate(timeline: Timeline, signal: AbortSignal, { virtualNodes, jobNodes }: Stage): Promise<Facts> {
  timeline.add('trial', 'how fast is HPL on this machine?')
  const { gigaflops, solves } = await tryOut(signal, jobNodes)
  timeline.add('trial', `${gigaflops.toFixed(1)} Gflop/s: the job gets ${solves} systems of order ${order} to solve`)
  const job = await submitLinpack({ order, solves, minutes: 1, nodes: jobNodes })
  timeline.add('submit', `alice: sbatch --time=1 ${jobNodes === 1 ? '' : `--nodes=${jobNodes} `}hpl.sh, in it the line "#SBATCH --stint": job ${job}`)
  const { stints, fields } = await follow({ job, timeline, signal, nodes: new Nodes(Array.from({ length: virtualNodes }, (_, i) => `n${i + 1}`), jobNodes, timeline), seconds: wholeRunSeconds })
  timeline.add('end', `job ${job} is ${fields.get('JobState') ?? '?'} with ExitCode ${fields.get('ExitCode') ?? '?'} after ${stints.length} stints`)
  // Whatever Slurm started after the submission would be here: the trial came before.
  const jobsInSlurm = [...(await on('ctl', 'scontrol show job -o')).matchAll(/^JobId=(\d+)/gm)].map((m) => Number(m[1])).filter((id) => id >= job)
  return { job, jobsInSlurm, fields, stints, solves, hpl: await hplResult(job) }
}

async function main(json: boolean, stage: Stage, signal: AbortSignal): Promise<boolean> {
  const timeline = new Timeline(json ? process.stderr : process.stdout)
  timeline.print(`Stint: a job of several minutes in allocations of one minute${stage.jobNodes === 1 ? '' : `, over ${stage.jobNodes} nodes each`}, on a virtual cluster of ${stage.virtualNodes} nodes.\n`)
  timeline.add('cluster', 'is being started; the first time its root file system is built')
  const good = await withCluster(stage.virtualNodes, json ? 2 : 1, signal, async () => {
    timeline.add('cluster', 'is up')
    const facts = await demonstrate(timeline, signal, stage)
    const checks = judge(facts)
    timeline.print(`\n${facts.hpl.lines.join('\n')}\n\n${stintTable(facts.stints)}\n\n${checkTable(checks)}\n`)
    if (json) process.stdout.write(`${summary(facts, checks, timeline.seconds)}\n`)
    return checks.every((check) => check.holds)
  })
  timeline.print(`${good ? 'All of it is true' : 'Not all of it is true'}; ${minutes(timeline.seconds)} minutes in all. The cluster is removed.`)
  return good
}

const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (!stopping.signal.aborted) process.stderr.write('\nInterrupted: the cluster is being removed.\n')
    stopping.abort()
  })
}
// A reader that went away, as in `npm run demo | head`, must not leave the cluster behind.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => { stopping.abort() })

process.exitCode = 1
process.env['STINT_CLUSTER'] ??= 'demo'
try {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, mpi: { type: 'boolean', default: false } } })
  if (await main(values.json, values.mpi ? stages.mpi : stages.single, stopping.signal)) process.exitCode = 0
} catch (error) {
  if (stopping.signal.aborted) process.exitCode = 130
  else process.stderr.write(`\ndemo: ${(error as Error).message}\n`)
}
