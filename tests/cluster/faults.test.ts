import { describe, expect } from '@jest/globals'
import type { DrainReport } from '../../daemon/core/drain.ts'
import { counter, leftovers, numbers, on, printed, putCriuBack, replaceCriu, restartDaemon, showJob, status, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { testOnLanes } from '../support/lanes.ts'

const minute = 60_000

/** Each test on a node of its own. */
const testOnNode = testOnLanes(['n1', 'n2', 'n3', 'n4', 'n5'])

/** The daemon of a node ends by SIGKILL at a named point; its supervisor starts it again; the job, which stays on that node, must come through. */
async function killAt(point: string, node: string): Promise<void> {
  const directory = await workDirectory()
  const once = `/run/stint/fault-${point}`
  await on(node, `echo STINT_FAULT=${point}:${once} > /etc/stint/environment`)
  await restartDaemon(node)
  const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: counter(60) })
  await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, 'sleep 2')
  await tryOn(node, `stint checkpoint ${job}`) // Its answer is lost with the daemon.
  expect((await untilEnded(job, 120)).get('ExitCode')).toBe('3:0')
  expect(await on(node, `ls ${once}`)).toBe(once)
  expect(await printed(directory)).toBe(numbers(60))
  await until('nothing is left behind', 10, async () => (await leftovers(node, job)) === '')
  await on(node, 'rm /etc/stint/environment')
  await restartDaemon(node)
}

describe('the daemon is killed with SIGKILL', () => {
  for (const point of ['opened', 'dumping', 'prepared', 'sealed', 'committed', 'restoring']) {
    testOnNode(`at the point "${point}": the job continues or is restored, its results are right, nothing is left`, async (node) => killAt(point, node), 6 * minute)
  }
})

describe('CRIU is made to fail', () => {
  testOnNode('a payload it must refuse ends as if Stint were not there, and the refusal is explained', async (node) => {
    const directory = await workDirectory()
    const script = '#!/bin/bash\npython3 -c "\nimport ctypes, time\nq = ctypes.CDLL(None).mq_open(b\'/stint-test\', 0o102, 0o600, None)\nassert q >= 0\ntime.sleep(15)\n"\nexit 5\n'
    const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script })
    await untilRunning(job)
    await untilState(node, job, 'running')
    await on(node, 'sleep 2')
    const refused = await tryOn(node, `stint checkpoint ${job}`)
    expect(refused.exitCode).not.toBe(0)
    expect(refused.stderr).toMatch(/message queue/i)
    expect((await status(node, job))?.error).toMatch(/message queue/i)
    const fields = await untilEnded(job, 60)
    expect(fields.get('ExitCode')).toBe('5:0')
    expect(fields.get('Restarts')).toBe('0')
  }, 2 * minute)
})

describe('a payload that ends while CRIU comes to save it', () => {
  /** Such a job; `save` is what makes CRIU come. @returns what `save` said */
  const endedBy = async (node: string, save: (job: number) => string): Promise<{ exitCode: number | undefined; stdout: string; stderr: string }> => {
    const directory = await workDirectory()
    await on('ctl', `chmod 777 ${directory}`) // CRIU has no right to pass over the modes of a user's directory.
    await replaceCriu(node, `#!/bin/bash\nif [ "$1" = dump ]; then touch ${directory}/go; sleep 1; fi\nexec /usr/sbin/criu.real "$@"\n`)
    try {
      const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: '#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\nexit 5\n' })
      await untilRunning(job)
      await untilState(node, job, 'running')
      const said = await tryOn(node, save(job))
      const fields = await untilEnded(job, 60)
      expect([fields.get('ExitCode'), fields.get('Restarts')]).toEqual(['5:0', '0'])
      return said
    } finally {
      await putCriuBack(node)
    }
  }

  testOnNode('has ended, and that is what is said', async (node) => {
    const { stderr } = await endedBy(node, (job) => `stint checkpoint ${job}`)
    expect(stderr).toMatch(/^stint: E_NOT_RUNNING: job \d+ has just ended$/m)
  }, 2 * minute)

  testOnNode('is no failure of a drain', async (node) => {
    const { exitCode, stdout } = await endedBy(node, () => 'stint drain --json')
    await on('ctl', `scontrol update nodename=${node} state=resume`)
    expect([exitCode, (JSON.parse(stdout) as DrainReport).jobs.map(({ outcome }) => outcome)]).toEqual([0, ['ended']])
  }, 2 * minute)
})

describe('what keeps a job from being saved', () => {
  testOnNode('is told on its standard error while it runs, once, with what to do', async (node) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint=net=host --time=10 --nodelist=${node}`, script: '#!/bin/bash\nexec 3<>/dev/tcp/ctl/22\nuntil [ -e told ]; do sleep 0.2; done\nexit 5\n' })
    await untilPrinted(directory, /^stint: the job cannot be saved/m, 60, 'err.txt')
    await on('ctl', `sleep 6; touch ${directory}/told`)
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('5:0')
    expect((await printed(directory, 'err.txt')).match(/^stint: the job cannot be saved as it is: .*10\.\d+\.\d+\.\d+:22.*$/gm)).toHaveLength(1)
  }, 2 * minute)
})

describe('a save before the time limit that fails', () => {
  /** A job that holds a message queue until `closed` exists, and whose limit is moved to a few seconds from now. */
  const withQueue = async (node: string, closed: string, seconds: number): Promise<{ job: number; directory: string }> => {
    const directory = await workDirectory()
    const program = `import ctypes, os, time\nlibc = ctypes.CDLL(None)\nq = libc.mq_open(b'/stint-${Date.now()}', 0o102, 0o600, None)\nassert q >= 0\nwhile not os.path.exists('${closed}'): time.sleep(0.1)\nlibc.close(q)\nprint('closed', flush=True)\nwhile not os.path.exists('end'): time.sleep(0.1)\n`
    const job = await submit({ directory, options: `--stint --time=10 --open-mode=append --nodelist=${node}`, script: `#!/bin/bash\npython3 -c "\n${program}"\nexit 5\n` })
    await untilState(node, job, 'running')
    await on(node, 'sleep 2')
    await on('ctl', `scontrol update jobid=${job} EndTime=$(date -d '+${seconds} seconds' +%Y-%m-%dT%H:%M:%S)`)
    return { job, directory }
  }
  const refusals = (text: string): string[] => text.match(/^stint: this job could not be saved before its time limit: .*$/gm) ?? []

  testOnNode('tells its owner why, what to do and when the job ends; what is on record stays the reason when Slurm has ended it', async (node) => {
    const { job, directory } = await withQueue(node, 'never', 12)
    expect((await untilEnded(job, 150)).get('JobState')).toBe('TIMEOUT')
    const told = refusals(await printed(directory, 'err.txt'))
    expect(told).toEqual([expect.stringMatching(/queue.*It will end at \d\d:\d\d:\d\d unless a later try succeeds[.;] .*what it has done since its start is lost\.$/i)])
    const run = await untilState(node, job, 'ended')
    expect(run.error).toMatch(/queue/i)
    expect(run.error).not.toMatch(/just ended|runs on/)
    expect(run.events.filter(({ kind }) => kind === 'checkpoint-failed').length).toBeLessThanOrEqual(9)
  }, 4 * minute)

  testOnNode('is made up for when its reason goes away, and that is told, too', async (node) => {
    const { job, directory } = await withQueue(node, 'go', 12)
    await untilPrinted(directory, /^stint: this job could not be saved before its time limit/m, 60, 'err.txt')
    await on('ctl', `touch ${directory}/go`)
    await untilRunning(job, 1, 120)
    await on('ctl', `touch ${directory}/end`)
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('5:0')
    const errors = await printed(directory, 'err.txt')
    expect(refusals(errors)).toHaveLength(1)
    expect(errors).toMatch(/^stint: this job is saved now; what kept it from being saved has gone: \S/m)
  }, 4 * minute)
})

describe('a job whose memory limit was lowered while it waited', () => {
  testOnNode('is held with the reason, not killed in its restore, and goes on when it has its memory back', async (node) => {
    const directory = await workDirectory()
    const script = '#!/bin/bash\npython3 -c "\nimport os, time\nheld = os.urandom(1 << 20) * 200\nopen(\'ready\', \'w\').close()\nwhile not os.path.exists(\'go\'): time.sleep(0.2)\nprint(len(held) >> 20)\n"\nexit 5\n'
    const job = await submit({ directory, options: `--stint --time=10 --mem=600 --open-mode=append --nodelist=${node}`, script })
    await untilState(node, job, 'running')
    await until('the job is ready', 30, async () => (await tryOn('ctl', `ls ${directory}/ready`)).exitCode === 0)
    await on(node, `stint checkpoint ${job}`)
    await until(`job ${job} is requeued`, 30, async () => (await showJob(job)).get('JobState') === 'PENDING')
    await on('ctl', `scontrol update jobid=${job} MinMemoryNode=100`)
    await untilPrinted(directory, /^stint: checkpoint 1 could not be restored on n\d: E_TOO_LITTLE_MEMORY: the job held \d+ MB of memory at checkpoint 1, and may have 100 MB here$/m, 90, 'err.txt')
    await until(`job ${job} is held`, 60, async () => (await showJob(job)).get('Priority') === '0')
    expect((await status(node, job))?.error).toMatch(/^the job held .*scontrol update/)
    await on('ctl', `touch ${directory}/go; scontrol update jobid=${job} MinMemoryNode=600; scontrol release ${job}`)
    expect((await untilEnded(job, 120)).get('ExitCode')).toBe('5:0')
    expect(await printed(directory)).toBe('200')
  }, 5 * minute)
})

/** A checkpoint into a store that cannot take it. */
async function checkpointInto(node: string, breakIt: string, expected: RegExp): Promise<void> {
  const directory = await workDirectory()
  await on(node, breakIt)
  try {
    const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: counter(80) })
    await untilRunning(job)
    await untilState(node, job, 'running')
    const refused = await tryOn(node, `stint checkpoint ${job}`)
    expect(refused.stderr).toMatch(expected)
    expect(refused.stderr).toMatch(/stint doctor|Free space/)
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
    expect(await printed(directory)).toBe(numbers(80))
  } finally {
    await on(node, 'umount /shared/stint')
  }
}

describe('the image store', () => {
  for (const [state, breakIt, expected] of [
    ['full', 'mount -t tmpfs -o size=64k,mode=700 none /shared/stint', /E_STORE_FULL/],
    ['missing', 'mkdir -p /tmp/empty && mount --bind /tmp/empty /shared/stint', /E_STORE_UNUSABLE/],
    ['read-only', 'mount --bind /shared/stint /shared/stint && mount -o remount,bind,ro /shared/stint', /E_STORE_UNUSABLE/],
  ] as const) {
    testOnNode(`is ${state}: the job is undamaged and the error says what to do`, async (node) => checkpointInto(node, breakIt, expected), 2 * minute)
  }

  testOnNode('is missing when a saved job comes back: the job is held, not started afresh; released with the store there it goes on', async (node) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: counter(60) })
    await untilRunning(job)
    await untilState(node, job, 'running')
    await on(node, `sleep 2; stint checkpoint ${job}`)
    await until(`job ${job} is requeued`, 30, async () => (await showJob(job)).get('JobState') === 'PENDING')
    await on(node, 'mkdir -p /tmp/empty && chmod 700 /tmp/empty && mount --bind /tmp/empty /shared/stint') // Slurm starts no job twice within cred_expire.
    try {
      const held = await until(`job ${job} is held`, 60, async () => {
        const fields = await showJob(job)
        return fields.get('JobState') === 'PENDING' && fields.get('Priority') === '0' ? fields : undefined
      })
      expect(held.get('Reason')).toMatch(/held/i)
      expect(await on('ctl', `scontrol show job ${job} | grep Comment=`)).toMatch(/E_NO_CHECKPOINT/)
    } finally {
      await on(node, 'umount /shared/stint')
    }
    await on('ctl', `scontrol release ${job}`)
    expect((await untilEnded(job, 120)).get('ExitCode')).toBe('3:0')
    expect(await printed(directory)).toBe(numbers(60))
  }, 4 * minute)
})

describe('a job that Slurm itself puts back into the queue', () => {
  testOnNode('by scontrol requeue is saved first: it goes on where it was, and runs to its end once', async (node) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: counter(60) })
    await untilRunning(job)
    await untilState(node, job, 'running')
    await on(node, 'sleep 2')
    await on('ctl', `scontrol requeue ${job}`)
    const fields = await untilEnded(job, 120)
    expect([fields.get('ExitCode'), fields.get('Restarts')]).toEqual(['3:0', '1'])
    await on('ctl', 'sleep 3')
    expect((await showJob(job)).get('JobState')).toBe('FAILED')
    expect(await printed(directory)).toBe(numbers(60))
  }, 3 * minute)

  // To its end only: after a grace slurmctld starts any job once more when it has ended (docs/user-guide.md).
  testOnNode('by preemption, without a --signal line, is saved in its grace, and goes on', async (node) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node} --exclusive`, script: counter(200) })
    await untilRunning(job)
    await untilState(node, job, 'running')
    await submit({ directory: await workDirectory(), options: `--partition=urgent --time=5 --nodelist=${node} --exclusive`, script: '#!/bin/bash\nsleep 2\n' })
    await untilRunning(job, 1, 90)
    expect((await untilState(node, job, 'running')).checkpoints.map((c) => [c.trigger, c.state])).toEqual([['preemption', 'requeued']])
    await until('every number was printed once', 60, async () => (await printed(directory)) === numbers(200))
    await on('ctl', `scancel ${job}`)
  }, 4 * minute)
})
