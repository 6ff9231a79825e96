import { execa } from 'execa'
import { clusterCommand, clusterOfWorker } from './cluster.ts'

/** Removes what an earlier run has left: the tests begin on top of nothing, each worker with a cluster that its first file brings up. */
export default async function clusterUp({ maxWorkers }: { readonly maxWorkers: number }): Promise<void> {
  for (let worker = 1; worker <= maxWorkers; worker++) {
    await execa(clusterCommand, ['down'], { reject: false, stdio: 'ignore', env: { STINT_CLUSTER: clusterOfWorker(worker) } })
  }
}
