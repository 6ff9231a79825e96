import { describe, expect, test } from '@jest/globals'
import { cluster, leftovers, on, restartDaemon, showJob, status, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000

/** A job that runs on a node until the file `go` is there, saved once. */
async function runWithImage(node: string): Promise<{ job: number; directory: string }> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script: '#!/bin/bash\nwhile [ ! -e go ]; do sleep 0.2; done\nexit 3\n' })
  await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, `sleep 1; stint checkpoint --keep-running ${job}`)
  return { job, directory }
}

describe('a node that dies during a checkpoint', () => {
  test('leaves the sealed checkpoint before; the job goes on from there elsewhere, and what was left unfinished is reclaimed', async () => {
    const { job, directory } = await runWithImage('n3')
    await on('n3', 'echo STINT_FAULT=prepared:/run/stint/dead > /etc/stint/environment')
    await restartDaemon('n3')
    await until('the sandbox is back', 20, async () => (await status('n3', job))?.state === 'running')
    const asked = tryOn('n3', `stint checkpoint ${job}`)
    await until('the dump is at its barrier', 20, async () => (await tryOn('n3', 'ls /run/stint/dead')).exitCode === 0)
    await cluster('crash', 'n3')
    await asked
    expect(await on('ctl', `cd /shared/stint/${job}/* && ls -A`)).toBe('.unfinished-n3-0002\n0001')
    await on('ctl', `scontrol update nodename=n3 state=down reason=crashed; sleep 1`)
    await until(`job ${job} waits`, 60, async () => (await showJob(job)).get('JobState') === 'PENDING')
    await on('ctl', `scontrol update jobid=${job} nodelist=`)
    const node = await untilRunning(job, 1, 90)
    await untilState(node, job, 'running')
    const events = (await status(node, job))?.events ?? []
    expect(events.filter((event) => event.kind === 'restored').map((event) => event.detail['checkpoint'])).toEqual([1])
    const would = JSON.parse(await on(node, 'stint reclaim --dry-run --json')) as { job: number; what: string; reason: string }[]
    expect(would.filter((one) => one.job === job)).toEqual([expect.objectContaining({ what: 'unfinished', reason: `begun on n3; its job runs on ${node} by now` })])
    expect(await on(node, 'stint reclaim --json', { user: 'alice' })).toBe('[]')
    expect(await on(node, 'stint reclaim')).toMatch(/unfinished/)
    expect(await on('ctl', `cd /shared/stint/${job}/* && ls -A`)).toBe('0001')
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
    await cluster('boot', 'n3')
    await on('ctl', 'scontrol update nodename=n3 state=resume')
  }, 4 * minute)
})

describe('a job that ends while the daemon of its node is away', () => {
  test('leaves nothing: its images go when the daemon is back', async () => {
    const { job, directory } = await runWithImage('n4')
    await cluster('daemon', 'n4', 'stop')
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
    expect(await on('ctl', `ls /shared/stint/${job}/*`)).toBe('0001')
    await cluster('daemon', 'n4', 'start')
    await until('the images are gone', 20, async () => (await tryOn('ctl', `ls /shared/stint/${job}`)).exitCode !== 0)
    await until('nothing is left behind', 20, async () => (await leftovers('n4', job)) === '')
    expect((await status('n4', job))?.state).toBe('ended')
  }, 3 * minute)
})

describe('a quota', () => {
  test('is looked at before a checkpoint: older ones of the same run go first, then the save is refused with a remedy', async () => {
    await on('n1', `sed -i 's/^path = .*/&\\nuser_quota_gb = 0.03/' /etc/stint/stint.toml`)
    await restartDaemon('n1')
    const directory = await workDirectory('bob')
    const job = await submit({ user: 'bob', directory, options: '--stint --time=10 --nodelist=n1', script: '#!/bin/bash\npython3 -c "\nimport os, time\nx = os.urandom(8_000_000)\nwhile not os.path.exists(\'go\'): time.sleep(0.2)\n"\nexit 3\n' })
    await untilRunning(job)
    await untilState('n1', job, 'running')
    await on('n1', 'sleep 2')
    const images = async (): Promise<number[]> => (JSON.parse(await on('n1', `stint images ${job} --json`)) as { checkpoint: number }[]).map((image) => image.checkpoint)
    for (const number of [1, 2, 3]) {
      await on('n1', `stint checkpoint --keep-running ${job}`)
      expect((await images())[0]).toBe(number)
    }
    await on('n1', `sed -i 's/^user_quota_gb = .*/user_quota_gb = 0.02/' /etc/stint/stint.toml`)
    await restartDaemon('n1')
    await until('the sandbox is back', 20, async () => (await status('n1', job))?.state === 'running')
    const refused = await tryOn('n1', `stint checkpoint --keep-running ${job}`)
    expect(refused.stderr).toMatch(/E_STORE_QUOTA: the image needs \d+ MB; of the 0.02 GB for the images of bob \d+ MB are in use[^]*stint reclaim/)
    expect((await images())[0]).toBe(3)
    await on('ctl', `touch ${directory}/go`, { user: 'bob' })
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
  }, 2 * minute)
})
