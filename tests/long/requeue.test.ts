import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { atOnce, cluster, leftovers, on, printed, putCriuBack, replaceCriu, restartDaemon, showJob, status, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { FakeDaemon } from '../support/fake-daemon.ts'

const minute = 60_000
/** Counts until the file `go` is there. */
const script = '#!/bin/bash\ni=0\nwhile [ ! -e go ]; do echo $((++i)); sleep 0.2; done\nexit 3\n'

/** Lets a counting job end. @returns its exit code, when it has told every number once */
async function endCounter(job: number, directory: string): Promise<string | undefined> {
  await on('ctl', `touch ${directory}/go`, { user: 'alice' })
  const exitCode = (await untilEnded(job, 60)).get('ExitCode')
  const lines = (await printed(directory)).split('\n')
  expect(lines).toEqual(lines.map((_, i) => String(i + 1)))
  return exitCode
}

/** slurmctld writes its state some seconds after a change; killed before, it forgets that the job runs, and drains the node. */
async function untilOnDisk(job: number, node: string): Promise<void> {
  await on('ctl', `touch /run/changed; sleep 0.1; scontrol update jobid=${job} comment=changed; scontrol update nodename=${node} comment=changed`)
  await until('slurmctld has written its state', 60, async () => await on('ctl', 'find /var/spool/slurmctld/job_state /var/spool/slurmctld/node_state -newer /run/changed | wc -l') === '2')
}

/** slurmctld is killed, once what it knows of the job is on disk, and started again afterwards. */
async function withoutSlurmctld(job: number, node: string, action: () => Promise<void>): Promise<void> {
  await untilOnDisk(job, node)
  await on('ctl', 'pid=$(cat /run/slurm/slurmctld.pid); kill -KILL $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done')
  try {
    await action()
  } finally {
    await on('ctl', 'rm -f /run/slurm/slurmctld.pid; slurmctld')
  }
}

describe('slurmctld is away', () => {
  test('while a job is saved: the job is held in its sandbox, requeued when slurmctld is back, and goes on', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10', script })
    const node = await untilRunning(job)
    await untilState(node, job, 'running')
    await withoutSlurmctld(job, node, async () => {
      await on(node, `stint checkpoint ${job}`)
      expect((await status(node, job))?.state).toBe('held')
      await until('the requeue was tried', 40, async () => (await status(node, job))?.error?.includes('scontrol'))
      expect((await status(node, job))?.state).toBe('held')
    })
    const next = await untilRunning(job, 1, 90)
    await untilState(next, job, 'running')
    expect((await showJob(job)).get('Restarts')).toBe('1')
    expect(await endCounter(job, directory)).toBe('3:0')
  }, 4 * minute)
})

/** A job that was saved on a node, the only one it may have. */
async function saveOn(node: string, text = script): Promise<{ job: number; directory: string }> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: text })
  await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, `sleep 1; stint checkpoint ${job}`)
  return { job, directory }
}

describe('the daemon is stopped while slurmctld is away', () => {
  test('and a failed restore waits for it: the sandbox is the next daemon\'s to care for, and the job is held in the end', async () => {
    const { job, directory } = await saveOn('n2')
    await replaceCriu('n2', `#!/bin/bash\nif [ "$1" = restore ]; then mkdir -p ${directory}/restoring; until [ -e ${directory}/fail ]; do sleep 0.2; done; exit 1; fi\nexec /usr/sbin/criu.real "$@"\n`)
    try {
      await until('CRIU restores', 60, async () => (await tryOn('ctl', `ls ${directory}/restoring`)).exitCode === 0)
      await withoutSlurmctld(job, 'n2', async () => {
        await on('ctl', `touch ${directory}/fail`)
        await until('the restore has failed', 60, async () => (await status('n2', job))?.events.some(({ kind }) => kind === 'restore-failed'))
        await until('it waits for its next try to reach slurmctld', 60, async () => (await cluster('daemon', 'n2', 'log')).stdout.split('\n').some((line) => line.includes(`"job":${job}`) && line.includes('was not accepted; trying again')))
        await restartDaemon('n2')
        await on('n2', 'sleep 2')
        expect((await status('n2', job))?.state).toBe('restoring')
        expect(await on('n2', "ip -o link | grep -c ' st[0-9]*@' || true")).toBe('1')
      })
      await until('the job is held', 120, async () => (await on('ctl', `squeue -h -j ${job} -o %r`)).search(/held/i) >= 0)
      await until('its owner is told why', 20, async () => (await on('ctl', `scontrol show job ${job}`)).includes('Comment=stint: E_CRIU_RESTORE_FAILED'))
      await until('nothing is left behind', 20, async () => (await leftovers('n2', job)) === '')
    } finally {
      await putCriuBack('n2')
    }
    await on('ctl', `scontrol release ${job}`)
    await untilRunning(job, 2)
    await untilState('n2', job, 'running')
    expect(await endCounter(job, directory)).toBe('3:0')
  }, 6 * minute)
})

/** While `ip`, which makes the network of a sandbox, does something else and fails. */
async function withoutIp(node: string, instead: string, action: () => Promise<void>): Promise<void> {
  await on(node, `mv /usr/sbin/ip /usr/sbin/ip.away; printf '#!/bin/sh\\n${instead}\\nexit 1\\n' >/usr/sbin/ip; chmod 755 /usr/sbin/ip`)
  try {
    await action()
  } finally {
    await on(node, 'mv /usr/sbin/ip.away /usr/sbin/ip')
  }
}

/** It was cancelled in its second stint, and that was the end. */
async function expectCancelled(job: number): Promise<void> {
  expect((await untilEnded(job, 30)).get('JobState')).toBe('CANCELLED')
  await until('nothing is left behind', 20, async () => (await leftovers('n5', job)) === '')
  const fields = await showJob(job)
  expect([fields.get('JobState'), fields.get('Restarts')]).toEqual(['CANCELLED', '1'])
  await until('its image is gone', 20, async () => (await tryOn('ctl', `ls /shared/stint/${job}`)).exitCode !== 0)
  expect((await status('n5', job))?.events.filter(({ kind }) => kind === 'restore-failed' || kind === 'way-on') ?? []).toEqual([])
}

/** A program that tells in `directory` that it runs, and takes its time. */
const slowly = (directory: string, name: string): string => `mkdir ${directory}/${name}; sleep 4`

describe('scancel in the middle of a restore', () => {
  test('ends the job: what is killed then is no failed restore, and nothing puts the job back into the queue', async () => {
    const { job, directory } = await saveOn('n5')
    await replaceCriu('n5', `#!/bin/bash\nif [ "$1" = restore ]; then ${slowly(directory, 'restoring')}; fi\nexec /usr/sbin/criu.real "$@"\n`)
    try {
      await until('CRIU restores', 60, async () => (await tryOn('ctl', `ls ${directory}/restoring`)).exitCode === 0)
      await on('ctl', `scancel ${job}`, { user: 'alice' })
      await expectCancelled(job)
    } finally {
      await putCriuBack('n5')
    }
  }, 3 * minute)

  test('ends the job also where its sandbox cannot be made', async () => {
    const { job, directory } = await saveOn('n5')
    await until('its first sandbox is gone, which takes ip, too', 20, async () => (await leftovers('n5', job)) === '')
    await withoutIp('n5', slowly(directory, 'connecting'), async () => {
      await until('the sandbox is made', 60, async () => (await tryOn('ctl', `ls ${directory}/connecting`)).exitCode === 0)
      await on('ctl', `scancel ${job}`, { user: 'alice' })
      await untilEnded(job, 30)
    })
    await expectCancelled(job)
  }, 3 * minute)

  test('ends the job also when the program, just restored, answers SIGTERM by a crash', async () => {
    const { job } = await saveOn('n5', script.replace('\n', () => '\ntrap "kill -ABRT $$" TERM\n'))
    await untilRunning(job, 1)
    await untilState('n5', job, 'running')
    await on('ctl', `scancel ${job}`, { user: 'alice' })
    await expectCancelled(job)
  }, 3 * minute)
})

describe('scancel right after a checkpoint', () => {
  test('ends every job for good, though its requeue is under way', async () => {
    const jobs = await Promise.all(['n1', 'n2', 'n3', 'n4', 'n5'].flatMap((node) => [node, node]).map(async (node) => {
      const job = await submit({ directory: await workDirectory(), options: `--stint --time=10 --nodelist=${node}`, script })
      await untilRunning(job)
      await untilState(node, job, 'running')
      return { node, job }
    }))
    await atOnce(jobs, async ({ node, job }) => { await on(node, `stint checkpoint ${job} && scancel ${job}`) })
    await on('ctl', 'sleep 25') // A job that was put back runs again by then.
    for (const { node, job } of jobs) {
      expect([job, (await showJob(job)).get('JobState')]).toEqual([job, 'CANCELLED'])
      await until('nothing is left behind', 20, async () => (await leftovers(node, job)) === '')
    }
    const names = jobs.map(({ job }) => job).join(' ')
    await until('their images are gone, also of those that were in the queue already', 90, async () => (await on('ctl', `cd /shared/stint && ls -d ${names} 2>/dev/null || true`)) === '')
    for (const node of ['n1', 'n2', 'n3', 'n4', 'n5']) await until(`and their logs on ${node}`, 90, async () => (await on(node, `cd /var/lib/stint/engine && ls -d ${names} 2>/dev/null || true`)) === '')
  }, 5 * minute)
})

describe('a saved job whose next daemon', () => {
  test('refuses its guard, or hangs, is requeued by the guard a minute after the daemon was lost', async () => {
    await atOnce([['n4', 'refuses-attach'], ['n5', 'hangs-at-attach']] as const, async ([node, behaviour]) => {
      await cluster('daemon', node, 'stop')
      try {
        const directory = await workDirectory()
        const first = await FakeDaemon.start(node, 'start')
        const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: '#!/bin/bash\necho ready; sleep 600\n' })
        await untilPrinted(directory, /ready/, 30)
        first.say('hold')
        await first.untilHeard(/^held$/m)
        await on(node, 'pkill -KILL -u alice -f "^stint-init root"; pkill -KILL -u alice -f slurm_script')
        await first.untilHeard(/^killed$/m)
        await first[Symbol.asyncDispose]()
        const lost = Date.now()
        await using second = await FakeDaemon.start(node, behaviour)
        await second.untilHeard(/^attach .*state=killed$/m)
        await until('it is requeued', 90, async () => (await showJob(job)).get('Restarts') === '1')
        expect(Date.now() - lost).toBeGreaterThan(55_000)
        await on('ctl', `scancel ${job}`)
        await until('nothing is left behind', 30, async () => (await leftovers(node, job)) === '')
      } finally {
        await cluster('daemon', node, 'start')
      }
    })
  }, 4 * minute)
})

describe('a job that Slurm may not requeue', () => {
  test('goes on as a new job of its owner where it asks for that and the site allows it; nobody else can inherit it', async () => {
    await on('n1', `sed -i 's/^\\[slurm\\]/[slurm]\\nresubmit = "asked"/' /etc/stint/stint.toml`)
    await restartDaemon('n1')
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint=continue=submit --no-requeue --time=10 --nodelist=n1 --job-name=heir', script })
    await untilRunning(job)
    await untilState('n1', job, 'running')
    await on('n1', 'sleep 1')
    await on('n1', `stint checkpoint ${job}`)
    const [ended, heir] = await until('the new job runs', 60, async () => {
      const id = Number(await on('ctl', 'squeue -h -u alice -n heir -t RUNNING -o %i'))
      const old = await showJob(job)
      return id > job && old.get('JobState') === 'FAILED' ? [old, id] as const : undefined
    })
    expect(ended.get('ExitCode')).toBe('75:0')
    const node = await untilRunning(heir)
    await untilState(node, heir, 'running')
    expect(await printed(directory, 'err.txt')).toMatch(new RegExp(`when it is saved it goes on as a new job of yours[^]*continues as job ${heir}[^]*continued from checkpoint 1`))
    expect(await endCounter(heir, directory)).toBe('3:0')
  }, 3 * minute)

  test('is told at its start that it can be saved with --keep-running only; an image of alice does not become a job of bob, whatever Slurm says', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint=continue=submit --no-requeue --time=10 --nodelist=n2', script })
    await untilRunning(job)
    await untilState('n2', job, 'running')
    expect((await tryOn('n2', `stint checkpoint ${job}`)).stderr).toMatch(/E_NOT_REQUEUABLE/)
    await on('n2', `stint checkpoint --keep-running ${job}`)
    expect(await printed(directory, 'err.txt')).toMatch(/can be saved with --keep-running only; the site does not allow continue=submit/)
    const bobs = await workDirectory('bob')
    const thief = await submit({ user: 'bob', directory: bobs, options: '--stint --time=10 --hold', script })
    expect((await tryOn('ctl', `scontrol update jobid=${thief} admincomment='stint: saved as checkpoint 1'`, { user: 'bob' })).exitCode).not.toBe(0)
    // What only root could do: even then the owner in the manifest counts.
    await on('ctl', `scontrol update jobid=${thief} admincomment='stint: saved as checkpoint 1'`)
    await on('n2', `cd /opt/stint && node_modules/.bin/node --no-warnings -e 'Promise.all([import("/opt/stint/plugins/stores/posix/store.ts"), import("/opt/stint/daemon/key-file.ts")]).then(([{ PosixStore }, { readKeys }]) => { const s = new PosixStore("/shared/stint", 0, undefined, () => readKeys("/etc/stint/store.key")); const [i] = s.list(${job}); s.handOver(${job}, i.manifest.run, ${thief}) })'`)
    await on('ctl', `scontrol release ${thief}`)
    await until('the job is held', 60, async () => (await on('ctl', `scontrol show job ${thief}`)).includes('E_NO_CHECKPOINT'))
    expect(await printed(bobs)).toBe('')
    await on('ctl', `scancel ${thief}; touch ${directory}/go`)
    await untilEnded(job, 60)
  }, 3 * minute)
})

describe('a node that cannot open the sandbox of a saved job', () => {
  test('puts the job back into the queue, and it goes on when that has passed', async () => {
    const { job, directory } = await saveOn('n5')
    await withoutIp('n5', 'true', async () => {
      await until('it was tried in vain', 60, async () => Number((await showJob(job)).get('Restarts')) >= 2)
    })
    await untilRunning(job, 2)
    await untilState('n5', job, 'running')
    expect(await printed(directory, 'err.txt')).toMatch(/put back into the queue and tried again/)
    expect(await endCounter(job, directory)).toBe('3:0')
  }, 4 * minute)
})

describe('an image store that is on its node alone', () => {
  async function setStore(path: string): Promise<void> {
    await on('n4', `sed -i 's|^path = .*|path = "${path}"|' /etc/stint/stint.toml`)
    await restartDaemon('n4')
  }
  beforeAll(async () => {
    await on('n4', 'install -d -m 0700 /var/lib/stint/images')
    await setStore('/var/lib/stint/images')
  }, minute)
  afterAll(async () => { await setStore('/shared/stint') }, minute)

  test('doctor warns of it', async () => {
    expect(await on('n4', 'stint doctor || true')).toMatch(/warning\s+image store\s+\/var\/lib\/stint\/images, on this node alone/)
  }, minute)

  test('a job of one node is told so at its start, and comes back to the node', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 --exclude=n1,n2,n3,n5', script })
    await untilRunning(job)
    await untilState('n4', job, 'running')
    expect(await printed(directory, 'err.txt')).toMatch(/images is on n4 alone: once saved the job can continue on this node only/)
    await on('n4', `sleep 1; stint checkpoint ${job}`)
    await until('the job waits for this node', 30, async () => (await showJob(job)).get('ReqNodeList') === 'n4')
    await on('ctl', `scontrol update jobid=${job} excnodelist=`)
    await untilRunning(job, 1)
    await untilState('n4', job, 'running')
    expect(await endCounter(job, directory)).toBe('3:0')
  }, 3 * minute)

  test('a job of several nodes is told that it cannot be saved, and runs', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 -N 2 --nodelist=n4,n5', script: '#!/bin/bash\nsleep 1\nexit 3\n' })
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
    expect(await printed(directory, 'err.txt')).toMatch(/images is on n4 alone: a job over several nodes cannot be saved[^]*store that all nodes share/)
  }, 2 * minute)
})
