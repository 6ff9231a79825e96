import { execa } from 'execa'
import { cluster, clusterCommand } from '../support/cluster.ts'

interface ClusterStatus { readonly cluster: string; readonly up: boolean }

/**
 * A cluster that lives as long as `use` runs, whatever ends it. One that was up before belongs to somebody else: it is
 * neither used nor removed.
 * @throws Error when it cannot be started
 */
export async function withCluster<T>(nodes: number, output: 1 | 2, signal: AbortSignal, use: () => Promise<T>): Promise<T> {
  const { stdout, stderr, exitCode } = await cluster('status', '--json')
  if (exitCode !== 0) throw new Error(stderr)
  const { cluster: name, up } = JSON.parse(stdout) as ClusterStatus
  if (up) throw new Error(`a cluster "${name}" is up already; remove it first: STINT_CLUSTER=${name} tests/cluster/cluster down`)
  try {
    // Interrupted it removes what there is of the cluster itself, and must have the time for it.
    await execa(clusterCommand, ['up', '--nodes', String(nodes)], { stdin: 'ignore', stdout: output, stderr: 2, cancelSignal: signal, forceKillAfterDelay: false })
    return await use()
  } finally {
    // In a process group of its own: a second Ctrl-C must not end the removal.
    await execa(clusterCommand, ['down'], { stdin: 'ignore', stdout: output, stderr: 2, detached: true })
  }
}
