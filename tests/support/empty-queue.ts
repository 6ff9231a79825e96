import { beforeAll } from '@jest/globals'
import { on } from './cluster.ts'

/** A file begins with an empty queue, whatever an earlier one has left in it. */
beforeAll(async () => {
  await on('ctl', 'scancel --user=alice; scancel --user=bob; for i in $(seq 300); do squeue -h | grep -q . || break; sleep 0.2; done')
}, 120_000)
