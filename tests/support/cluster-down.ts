import { execa } from 'execa'
import { clusterCommand, clusterOfWorker, clusterIsUp } from './cluster.ts'

/** Removes the virtual clusters; STINT_CLUSTER_KEEP=1 leaves them for a look. */
export default async function clusterDown({ maxWorkers }: { readonly maxWorkers: number }): Promise<void> {
  if (process.env['STINT_CLUSTER_KEEP'] === '1') return
  for (let worker = 1; worker <= maxWorkers; worker++) {
    const name = clusterOfWorker(worker)
    if (clusterIsUp(name)) await execa(clusterCommand, ['down'], { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit', env: { STINT_CLUSTER: name } })
  }
}
