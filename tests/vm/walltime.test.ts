import { beforeAll, describe, expect, test } from '@jest/globals'
import { cluster, on, showJob, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

/** Half-second steps; more than two allocations of two minutes. */
const count = 500
const minute = 60_000

describe('on a booted machine with systemd and cgroup v2, a job that needs more time than its limit', () => {
  let directory: string
  let job: number
  let fields: ReadonlyMap<string, string>

  beforeAll(async () => {
    directory = await workDirectory()
    job = await submit({ directory, options: '--stint --time=2 --mem=300', script: 'count.sh', environment: { COUNT: count } })
    const node = await untilRunning(job, 0, 120)
    await untilState(node, job, 'running', 120)
    // A restart of the service in mid-run is nothing the job notices.
    await on(node, 'systemctl restart stintd')
    fields = await untilEnded(job, 900)
  }, 20 * minute)

  test("crosses its limit twice or more under one job id, and ends with the script's own exit code", () => {
    expect(Number(fields.get('Restarts'))).toBeGreaterThanOrEqual(2)
    expect(fields.get('ExitCode')).toBe('7:0')
  })

  test('prints every number once', async () => {
    const numbers = Array.from({ length: count }, (_, i) => String(i + 1))
    expect((await on('ctl', `cat ${directory}/out.txt`)).split('\n')).toEqual([...numbers, 'trap ran'])
  })

  test('leaves no cgroup, mount, device or process behind', async () => {
    await until('nothing is left', 60, async () => (await on('ctl', `find /sys/fs/cgroup -path '*job_${job}*' -type d; ip -o link | grep -o ' st[0-9]*@'; pgrep -a 'stint-init|criu'; ls /run/stint/sandboxes`).catch(() => '')) === '')
    expect((await tryOn('ctl', 'systemctl is-active stintd')).stdout).toBe('active')
  }, 2 * minute)
})

describe('a reboot of the machine', () => {
  test('with a saved job: it continues after the boot', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 --mem=300', script: 'count.sh', environment: { COUNT: 120 } })
    const node = await untilRunning(job, 0, 120)
    await untilState(node, job, 'running', 120)
    await on(node, `sleep 5; stint checkpoint ${job}`)
    await until('the job is requeued', 60, async () => (await showJob(job)).get('JobState') === 'PENDING')
    await cluster('reboot')
    expect((await untilEnded(job, 400)).get('ExitCode')).toBe('7:0')
    expect((await on('ctl', `cat ${directory}/out.txt`)).split('\n')).toEqual([...Array.from({ length: 120 }, (_, i) => String(i + 1)), 'trap ran'])
  }, 12 * minute)
})
