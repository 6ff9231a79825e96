import { beforeAll } from '@jest/globals'
import { execa } from 'execa'
import { clusterCommand, clusterIsUp, on } from './cluster.ts'

/** The first file of a worker may have to build the nodes' root file system. */
const minutes = 10

/** A file begins with an empty queue, whatever an earlier one has left in it. */
async function emptyQueue(): Promise<void> {
  await on('ctl', 'scancel --user=alice; scancel --user=bob; for i in $(seq 300); do squeue -h | grep -q . || break; sleep 0.2; done')
}

beforeAll(async () => {
  if (clusterIsUp()) {
    await emptyQueue()
    return
  }
  await execa(clusterCommand, ['up', ...(process.env['STINT_TEST_MACHINE'] === 'vm' ? [] : ['--nodes', '5'])], { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' })
}, minutes * 60_000)
