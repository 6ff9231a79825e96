import { describe, test } from '@jest/globals'
import { moveOneNodeChecker } from '../support/mpi.ts'

const minute = 60_000

describe('MPI on one node with cgroup v2', () => {
  test('the Allreduce checker with MPICH, 2 ranks, moved to the other node, finds every number right', async () => {
    await moveOneNodeChecker(2, '--mem=400')
  }, 30 * minute)
})
