import { execa } from 'execa'
import { clusterCommand } from './cluster.ts'

/** Starts the virtual cluster for the cluster tests, on top of nothing. */
export default async function clusterUp(): Promise<void> {
  await execa(clusterCommand, ['down'], { reject: false, stdio: 'ignore' })
  await execa(clusterCommand, ['up', ...(process.env['STINT_TEST_MACHINE'] === 'vm' ? [] : ['--nodes', '5'])], { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' })
}
