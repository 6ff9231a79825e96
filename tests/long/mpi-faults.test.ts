import { afterEach, describe, expect, test } from '@jest/globals'
import { cluster, leftovers, nodesOf, on, printed, putCriuBack, replaceCriu, restartDaemon, showJob, status, tryOn, until, untilEnded, untilRunning, untilState } from '../support/cluster.ts'
import { buildChecker, doneLine, submitChecker, untilFurther, untilStep, type MpiJob } from '../support/mpi.ts'

/** Something breaks while a job of 3 nodes is saved: it goes on with right results, or is restored with right results, and never runs by halves. */

const minute = 60_000
const nodes = ['n1', 'n2', 'n3']

interface Subject { readonly job: MpiJob; readonly coordinator: string; readonly other: string }

async function subject(): Promise<Subject> {
  const job = await submitChecker('mpich', { directory: await buildChecker(['mpich']), nodes: 3, perNode: 1, steps: 1500, options: `--nodelist=${nodes.join()}` })
  await untilRunning(job.job)
  await untilStep(job, 50)
  const [coordinator = '', other = ''] = await nodesOf(job.job)
  return { job, coordinator, other }
}

async function expectRightEnd({ job }: Subject): Promise<void> {
  const fields = await untilEnded(job.job, 300)
  expect(fields.get('ExitCode')).toBe('0:0')
  const lines = (await printed(job.directory)).split('\n').filter((line) => /^(step|DONE|WRONG)/.test(line))
  // Each step is told once: what ran twice, or by halves, would show.
  expect(lines).toEqual([...Array.from({ length: job.steps / 50 }, (_, i) => `step ${i * 50}`), doneLine(job)])
  await until('nothing is left behind', 30, async () => (await Promise.all(nodes.map((node) => leftovers(node, job.job)))).every((left) => left === ''))
}

async function withFault(node: string, fault: string, act: () => Promise<void>): Promise<void> {
  const once = `/run/stint/fault-${Date.now()}`
  await on(node, `echo 'STINT_FAULT=${fault}:${once}' >/etc/stint/environment`)
  try {
    await restartDaemon(node)
    await act()
    expect(await on(node, `ls ${once}`)).toBe(once)
  } finally {
    await on(node, 'rm -f /etc/stint/environment')
  }
}

/** Nothing passes between a node and the others but Slurm's own ports, as when the link of its daemon and its jobs is cut. */
async function cut(node: string): Promise<void> {
  await on(node, `nft -f - <<END
table inet cut {
  chain in { type filter hook input priority -200; tcp dport 22 drop; tcp sport 22 drop; udp dport 4789 drop; }
  chain out { type filter hook output priority -200; tcp dport 22 drop; tcp sport 22 drop; udp dport 4789 drop; }
}
END`)
}

async function mend(node: string): Promise<void> {
  await tryOn(node, 'nft delete table inet cut')
}

afterEach(async () => {
  for (const node of nodes) await mend(node)
})

describe('CRIU fails on one member', () => {
  test('the checkpoint is given up on all, the reason names the node, the job goes on', async () => {
    const found = await subject()
    const { job, coordinator, other } = found
    await replaceCriu(other, '#!/bin/sh\nexit 1\n')
    try {
      const refused = await tryOn(coordinator, `stint checkpoint ${job.job}`)
      expect(refused.exitCode).not.toBe(0)
      expect(refused.stderr).toMatch(new RegExp(`member 1 on ${other}`))
    } finally {
      await putCriuBack(other)
    }
    await untilFurther(job)
    await on(coordinator, `stint checkpoint ${job.job}`)
    await expectRightEnd(found)
  }, 6 * minute)
})

describe('CRIU cannot restore one member', () => {
  test('none runs, the node is named and left, and the job goes on on other nodes', async () => {
    const found = await subject()
    const { job, coordinator, other } = found
    await on('ctl', 'scontrol update nodename=n4,n5 state=drain reason=test')
    await on(coordinator, `stint checkpoint ${job.job}`)
    await replaceCriu(other, '#!/bin/sh\nexit 1\n')
    try {
      await until('it waits', 30, async () => (await showJob(job.job)).get('JobState') === 'PENDING')
      await on('ctl', `scontrol update jobid=${job.job} nodelist=`)
      await untilRunning(job.job, 1)
      await on('ctl', 'scontrol update nodename=n4,n5 state=resume')
      const node = await untilRunning(job.job, 2)
      await untilState(node, job.job, 'running')
    } finally {
      await putCriuBack(other)
    }
    expect(await nodesOf(job.job)).not.toContain(other)
    expect(await printed(job.directory, 'err.txt')).toMatch(new RegExp(`could not be restored on ${coordinator}: [^]*member 1 on ${other}[^]*another node is tried`))
    await expectRightEnd(found)
  }, 6 * minute)
})

describe('the link of a member is cut', () => {
  test('before the dump: the checkpoint is refused within seconds, the job goes on when the link is back', async () => {
    const found = await subject()
    const { job, coordinator, other } = found
    await cut(other)
    const started = Date.now()
    const refused = await tryOn(coordinator, `stint checkpoint ${job.job}`)
    expect(refused.stderr).toMatch(/E_PEER/)
    expect(Date.now() - started).toBeLessThan(20_000)
    await mend(other)
    await untilFurther(job)
    await on(coordinator, `stint checkpoint ${job.job}`)
    await expectRightEnd(found)
  }, 6 * minute)

  test.each(['dumping', 'prepared'])('while it is %s: it is given up, the member asks for the decision by itself and goes on', async (point) => {
    const found = await subject()
    const { job, coordinator, other } = found
    // The member's CRIU is stopped so long that the cut comes at this point.
    const stop = point === 'dumping' ? 'until pgrep -x criu; do sleep 0.01; done; pkill -STOP -x criu' : 'until pgrep -x stint-barrier; do sleep 0.01; done'
    const watch = on(other, `timeout 30 sh -c '${stop}' >/dev/null`)
    const refused = tryOn(coordinator, `stint checkpoint ${job.job}`)
    await watch
    await cut(other)
    if (point === 'dumping') await on(other, 'sleep 4; pkill -CONT -x criu')
    expect((await refused).exitCode).not.toBe(0)
    await mend(other)
    await untilFurther(job)
    await expectRightEnd(found)
  }, 6 * minute)
})

describe('a daemon is killed', () => {
  test.each([['a member\'s', 'n2', 'opened'], ['the coordinator\'s', 'n1', 'member-started']])('%s, while the member on n2 is opened', async (_whose, node, point) => {
    await withFault(node, point, async () => {
      const found = await subject()
      await expectRightEnd(found)
      expect((await showJob(found.job.job)).get('Restarts')).toBe('0')
    })
  }, 6 * minute)

  test.each(['dumping', 'prepared', 'ending'])('a member\'s, at the point "%s"', async (point) => {
    const found = await subject()
    const { job, coordinator, other } = found
    await withFault(other, point, async () => {
      await tryOn(coordinator, `stint checkpoint ${job.job}`)
      await untilFurther(job)
    })
    await expectRightEnd(found)
  }, 6 * minute)

  test.each(['dumping', 'prepared', 'sealed', 'decided', 'committed', 'restoring'])('the coordinator\'s, at the point "%s"', async (point) => {
    const found = await subject()
    const { job, coordinator } = found
    await withFault(coordinator, point, async () => {
      await tryOn(coordinator, `stint checkpoint ${job.job}`)
      await untilFurther(job, 180)
    })
    await expectRightEnd(found)
  }, 8 * minute)
})

describe('SSH to one peer hangs', () => {
  test('the checkpoint is given up within seconds, and the job goes on', async () => {
    const found = await subject()
    const { job, coordinator, other } = found
    await on(other, 'pkill -STOP sshd')
    const started = Date.now()
    try {
      expect((await tryOn(coordinator, `stint checkpoint ${job.job}`)).stderr).toMatch(/E_PEER/)
      expect(Date.now() - started).toBeLessThan(20_000)
    } finally {
      await on(other, 'pkill -CONT sshd')
    }
    await untilFurther(job)
    await on(coordinator, `stint checkpoint ${job.job}`)
    await expectRightEnd(found)
  }, 6 * minute)
})

describe('a node crashes', () => {
  test('the job goes on from its last checkpoint on other nodes, and nothing of it stays on the others', async () => {
    const found = await subject()
    const { job, coordinator, other } = found
    await on(coordinator, `stint checkpoint ${job.job} --keep-running`)
    await untilFurther(job)
    await cluster('crash', other)
    try {
      await until('Slurm has put the job back', 120, async () => Number((await showJob(job.job)).get('Restarts')) > 0)
      await on('ctl', `scontrol update jobid=${job.job} nodelist= excnodelist=${other}`)
      const node = await untilRunning(job.job, 1, 120)
      await untilState(node, job.job, 'running', 90)
      expect(await nodesOf(job.job)).not.toContain(other)
      await untilFurther(job)
      expect((await status(node, job.job))?.stints.length).toBeGreaterThan(0)
    } finally {
      await cluster('boot', other)
    }
    await on('ctl', `scancel ${job.job}`)
    for (const at of [...nodes, 'n4', 'n5']) await until(`nothing is left on ${at}`, 60, async () => (await leftovers(at, job.job)) === '')
  }, 8 * minute)
})
