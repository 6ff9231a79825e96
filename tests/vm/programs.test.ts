import { describe, expect, test } from '@jest/globals'
import { fixtures, move, on, submit, until, untilEnded, untilRunning, untilState, tryOn, workDirectory } from '../support/cluster.ts'

const minute = 60_000

describe('MPI on one node with cgroup v2', () => {
  test('the Allreduce checker with MPICH, 2 ranks, moved to the other node, finds every number right', async () => {
    const directory = await workDirectory()
    await on('ctl', `cd ${directory} && mpicc.mpich -O2 -o allreduce.mpich ${fixtures}/programs/allreduce.c`, { user: 'alice' })
    const job = await submit({ directory, options: '--stint --time=20 --ntasks=2 --mem=400', script: 'allreduce.sh', environment: { STEPS: 400, RANKS: 2 } })
    const node = await untilRunning(job)
    await untilState(node, job, 'running')
    await until('it computes', 60, async () => (await tryOn(node, `grep 'step 100' ${directory}/out.txt`)).exitCode === 0)
    expect(await move(job, node, 1)).not.toBe(node)
    expect((await untilEnded(job, 150)).get('ExitCode')).toBe('0:0')
    // Each step every rank gets its neighbour's number; rank 0 gets 1.
    expect(await on('ctl', `tail -n 1 ${directory}/out.txt`)).toBe('DONE 400 400')
  }, 30 * minute)
})
