import { test } from '@jest/globals'
import { saveAndMove } from '../support/mpi.ts'

const minute = 60_000

/** With MPICH, and everything else about several nodes: tests/long/mpi.test.ts. */
test('an Open MPI job of 4 nodes is saved three times, moves twice, and gets every number right; no connection is reset', async () => {
  await saveAndMove('openmpi')
}, 8 * minute)
