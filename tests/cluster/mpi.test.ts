import { describe, expect, test } from '@jest/globals'
import { on, untilEnded, untilRunning } from '../support/cluster.ts'
import { allNodes, buildChecker, doneLine, expectNothingLeft, moveOff, nodesOf, submitChecker, tcpFigures, untilFurther, untilStep, type Flavour } from '../support/mpi.ts'

const minute = 60_000

describe('the Allreduce checker on 4 nodes with 2 ranks each', () => {
  /** Three checkpoints on the way, two moves; no connection may have been reset in between. */
  async function saveAndMove(flavour: Flavour, directory: string): Promise<void> {
    const job = await submitChecker(flavour, { directory, nodes: 4, perNode: 2, steps: 700 })
    let nodes = [await untilRunning(job.job)]
    await untilStep(job, 50)
    nodes = await nodesOf(job.job)
    const resets = async (): Promise<number> => Math.max(...(await Promise.all(nodes.map(async (node) => (await tcpFigures(node, job.job)).get('EstabResets') ?? NaN))))
    // MPI runtimes reset some connections of their own while they start; CRIU tries TCP out with one, in each namespace it enters:
    // `unshare --net sh -c "ip link set lo up; criu check --feature timens; grep Tcp /proc/net/snmp"`.
    const atStart = await resets()
    for (let n = 0; n < 3; n++) {
      await on(nodes[0] ?? '', `stint checkpoint ${job.job} --keep-running`)
      await untilFurther(job)
    }
    expect(await resets()).toBeLessThanOrEqual(atStart + 3)
    for (let restarts = 1; restarts <= 2; restarts++) {
      const before = nodes
      nodes = await moveOff(job, nodes[0] ?? '', [nodes[0] ?? ''], restarts)
      expect(nodes).not.toContain(before[0])
      await untilFurther(job)
      expect(await resets()).toBeLessThanOrEqual(1)
    }
    const fields = await untilEnded(job.job, 240)
    expect([fields.get('ExitCode'), fields.get('Restarts')]).toEqual(['0:0', '2'])
    expect(await on('ctl', `grep DONE ${directory}/out.txt`)).toBe(doneLine(job))
    expect(await on('ctl', `grep -c WRONG ${directory}/out.txt || true`)).toBe('0')
    await expectNothingLeft(allNodes, job.job)
  }

  test.each(['mpich', 'openmpi'] as const)('with %s: three checkpoints with --keep-running and two moves, every number right, no connection reset', async (flavour) => {
    await saveAndMove(flavour, await buildChecker([flavour]))
  }, 8 * minute)
})
