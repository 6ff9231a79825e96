import { on, printed, status, submit, tryOn, until, workDirectory } from './cluster.ts'

/** Floods by alice, and what bob notices of them. */

const floods = '/opt/stint/tests/fixtures/floods'

export type Flood = 'idle' | 'status' | 'images' | 'doctor' | 'unknown' | 'pipelined' | 'hung-up'
export const restFloods: readonly Flood[] = ['idle', 'status', 'images', 'doctor', 'unknown', 'pipelined', 'hung-up']

/** Floods a node for some seconds, without taking the processor from the jobs, which is Slurm's to share out; what was let through, by what was answered. */
export async function flood(node: string, kind: Flood, seconds: number): Promise<Record<string, number>> {
  const { stdout, stderr } = await tryOn(node, `timeout ${seconds + 30} nice -n 19 python3 ${floods}/flood.py ${kind} ${seconds}`, { user: 'alice' })
  if (stdout === '') throw new Error(`flood ${kind}: ${stderr}`)
  return JSON.parse(stdout) as Record<string, number>
}

export interface Delays { readonly asked: number; readonly failed: number; readonly median: number; readonly p99: number; readonly most: number }

/** How long the daemon makes root wait, milliseconds. */
export async function probe(node: string, seconds: number): Promise<Delays> {
  return JSON.parse(await on(node, `python3 ${floods}/probe.py ${seconds}`)) as Delays
}

/** Descriptors that the daemon of a node has open. */
export async function descriptorsOf(node: string): Promise<number> {
  return Number(await on(node, "ls /proc/$(pgrep -o -f '[d]aemon/main.ts')/fd | wc -l"))
}

export interface BobsJob { readonly job: number; readonly directory: string; readonly openedAfter: number }

/** A job of bob's that runs under Stint, on this node. @throws Error when it runs without */
export async function bobStarts(node: string, seconds: number, options = '--time=10'): Promise<BobsJob> {
  const directory = await workDirectory('bob')
  const submitted = Date.now()
  const job = await submit({
    user: 'bob', directory, options: `--stint --nodelist=${node} --cpus-per-task=1 ${options}`,
    script: `#!/bin/bash\ndate +%s%3N >began\nreadlink /proc/self/ns/pid >namespace\nfor i in $(seq 1 ${seconds}); do echo $i; sleep 1; done\necho done\n`,
  })
  const began = await until(`job ${job} of bob's has begun`, 60, async () => (await printed(directory, 'namespace')) !== '' && Number(await printed(directory, 'began')))
  if ((await printed(directory, 'namespace')).trim() === (await on(node, 'readlink /proc/1/ns/pid')).trim()) {
    throw new Error(`job ${job} of bob's runs without Stint: ${await printed(directory, 'err.txt')}`)
  }
  return { job, directory, openedAfter: began - submitted }
}

/** It is saved and runs on, is saved and requeued, and goes on. @throws Error when any of this does not come about */
export async function bobIsSavedAndRestored(node: string, { job }: BobsJob): Promise<void> {
  for (const how of ['--keep-running', '']) {
    // A job that has just begun, or gone on, is left alone for a moment.
    await until(`job ${job} of bob's is saved (${how})`, 40, async () => (await tryOn(node, `stint checkpoint ${job} ${how}`, { user: 'bob' })).exitCode === 0)
  }
  await until(`job ${job} of bob's goes on`, 60, async () => {
    const run = await status(node, job)
    return run?.state === 'running' && run.events.some(({ kind }) => kind === 'restored')
  })
}
