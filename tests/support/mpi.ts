import { expect } from '@jest/globals'
import { fixtures, leftovers, move, nodesOf, on, printed, submit, until, untilEnded, untilRunning, workDirectory } from './cluster.ts'

/** MPI jobs over several nodes, as tests start, watch and move them. */

export type Flavour = 'mpich' | 'openmpi'

/** Ranks that wait make room for those that compute: the machine below the virtual nodes has fewer cores than they say. */
export const sharedCores = 'export OMPI_MCA_mpi_yield_when_idle=1'

/** The Allreduce checker, built for a flavour, in a fresh directory. */
export async function buildChecker(flavours: readonly Flavour[], user: 'alice' | 'bob' = 'alice'): Promise<string> {
  const directory = await workDirectory(user)
  for (const flavour of flavours) await on('ctl', `cd ${directory} && mpicc.${flavour} -O2 -o allreduce.${flavour} ${fixtures}/programs/allreduce.c`, { user })
  return directory
}

export interface MpiJob {
  readonly job: number
  readonly directory: string
  readonly steps: number
  readonly ranks: number
}

/** A job of `nodes` nodes whose script calls plain mpirun. */
export async function submitChecker(flavour: Flavour, shape: { directory: string; nodes: number; perNode: number; steps: number; options?: string; user?: 'alice' | 'bob' }): Promise<MpiJob> {
  const { directory, nodes, perNode, steps, options = '', user = 'alice' } = shape
  const script = `#!/bin/bash\n${sharedCores}\nmpirun.${flavour} ./allreduce.${flavour} ${steps} 1024 5000 end\n`
  const job = await submit({ directory, options: `--stint --time=20 -N ${nodes} --ntasks-per-node=${perNode} ${options}`, script, user })
  return { job, directory, steps, ranks: nodes * perNode }
}

/** The last step that rank 0 has told of; -1 before the first. */
export async function stepOf({ directory }: Pick<MpiJob, 'directory'>): Promise<number> {
  return Number([...(await printed(directory)).matchAll(/^step (\d+)$/gm)].at(-1)?.[1] ?? -1)
}

export async function untilStep(job: MpiJob, step: number, seconds = 120): Promise<void> {
  await until(`job ${job.job} has made step ${step}`, seconds, async () => (await stepOf(job)) >= step)
}

/** It goes on: later steps than the one it is at now. */
export async function untilFurther(job: MpiJob, seconds = 120): Promise<void> {
  await untilStep(job, (await stepOf(job)) + 50, seconds)
}

/** What the checker must say at its end: each step rank 0 gets the number of the rank before it. */
export function doneLine({ steps, ranks }: Pick<MpiJob, 'steps' | 'ranks'>): string {
  return `DONE ${steps} ${steps * (ranks - 1)}`
}

/** The same for a checker that was told when to end: right for as many steps as it says it made. */
export function rightFor(done: string, ranks: number): string {
  return doneLine({ steps: Number(done.split(' ')[1]), ranks })
}

/** A figure of /proc/net/snmp's Tcp lines in the network of a job's sandbox on a node. */
export async function tcpFigures(node: string, job: number): Promise<ReadonlyMap<string, number>> {
  const text = await on(node, `pid=$(pgrep -f '[s]tint-init guard.* job=${job} ' | head -n 1); pid1=$(pgrep -P $pid | head -n 1); grep ^Tcp: /proc/$pid1/net/snmp`)
  const [names = [], values = []] = text.split('\n').map((line) => line.split(/\s+/).slice(1))
  return new Map(names.map((name, at) => [name, Number(values[at])]))
}

export const allNodes = ['n1', 'n2', 'n3', 'n4', 'n5']

/** Waits until no node has anything of the job any more. */
export async function expectNothingLeft(nodes: readonly string[], job: number): Promise<void> {
  await until(`nothing of job ${job} is left`, 30, async () => (await Promise.all(nodes.map((node) => leftovers(node, job)))).every((left) => left === ''))
}

/** More steps than any test waits for: such a checker goes on until it is told to end. */
export const endless = 1_000_000

/** Tells a checker to end; it must have moved `restarts` times, and every number must have been right. */
export async function endChecker({ job, directory, ranks }: MpiJob, restarts: number): Promise<void> {
  await on('ctl', `touch ${directory}/end`, { user: 'alice' })
  const fields = await untilEnded(job, 60)
  expect([fields.get('ExitCode'), fields.get('Restarts')]).toEqual(['0:0', String(restarts)])
  const lines = (await printed(directory)).split('\n')
  const done = lines.at(-1) ?? ''
  expect(done).toBe(rightFor(done, ranks))
  expect(lines.filter((line) => line.includes('WRONG'))).toEqual([])
}

/** The Allreduce checker with MPICH on one node, moved to another: every number right. */
export async function moveOneNodeChecker(ranks: number, options = ''): Promise<void> {
  const directory = await buildChecker(['mpich'])
  const job = await submitChecker('mpich', { directory, nodes: 1, perNode: ranks, steps: endless, options })
  const node = await untilRunning(job.job)
  await untilStep(job, 100)
  expect(await move(job.job, node, 1)).not.toContain(node)
  await untilFurther(job)
  await endChecker(job, 1)
}

/** The Allreduce checker on 4 nodes with 2 ranks each: three checkpoints on the way, two moves; every number right, no connection reset. */
export async function saveAndMove(flavour: Flavour): Promise<void> {
  const directory = await buildChecker([flavour])
  const job = await submitChecker(flavour, { directory, nodes: 4, perNode: 2, steps: endless })
  let nodes = [await untilRunning(job.job)]
  await untilStep(job, 50)
  nodes = await nodesOf(job.job)
  const resets = async (): Promise<number> => Math.max(...(await Promise.all(nodes.map(async (node) => (await tcpFigures(node, job.job)).get('EstabResets') ?? NaN))))
  // MPI runtimes reset some connections of their own while they start; CRIU tries TCP out with one, in each namespace it enters:
  // `unshare --net sh -c "ip link set lo up; criu check --feature timens; grep Tcp /proc/net/snmp"`.
  const atStart = await resets()
  for (let n = 0; n < 3; n++) {
    await on(nodes[0] ?? '', `stint checkpoint ${job.job} --keep-running`)
    await untilFurther(job)
  }
  expect(await resets()).toBeLessThanOrEqual(atStart + 3)
  for (let restarts = 1; restarts <= 2; restarts++) {
    const before = nodes
    nodes = await move(job.job, nodes[0] ?? '', restarts)
    expect(nodes).not.toContain(before[0])
    await untilFurther(job)
    expect(await resets()).toBeLessThanOrEqual(1)
  }
  await endChecker(job, 2)
  await expectNothingLeft(allNodes, job.job)
}
