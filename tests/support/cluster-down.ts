import { execa } from 'execa'
import { clusterCommand } from './cluster.ts'

/** Removes the virtual cluster; STINT_CLUSTER_KEEP=1 leaves it for a look. */
export default async function clusterDown(): Promise<void> {
  if (process.env['STINT_CLUSTER_KEEP'] !== '1') await execa(clusterCommand, ['down'], { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' })
}
