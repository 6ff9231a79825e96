import { beforeAll, describe, expect, test } from '@jest/globals'
import { dumpCapabilities, restoreCapabilities } from '../../plugins/engines/criu/capabilities.ts'
import { cluster, fixtures, leftovers, on, printed, showJob, status, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { cgroupsOf, daemonCgroup, jobCgroup, memoryStat, stopCriu, untilDaemonAlone } from '../support/machine.ts'

const minute = 60_000
const megabyte = 2 ** 20

function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i + 1))
}

/** How systemd saw the service end since the boot, each way once. */
async function endings(): Promise<string> {
  return on('n1', "journalctl --boot --unit=stintd --output=cat | sed -nE 's/^stintd.service: (Deactivated .*|Failed .*|State .* timed out.*)/\\1/p' | sort -u")
}

describe('while a job crosses its limit twice or more', () => {
  let directory: string
  let job: number

  beforeAll(async () => {
    directory = await workDirectory()
    job = await submit({ directory, options: '--stint --time=2 --mem=300 --nodelist=n1', script: 'count.sh', environment: { COUNT: 3000 } })
    await untilState(await untilRunning(job), job, 'running')
  }, 16 * minute)

  test("its processes are in a cgroup of their own below the step's, limits are in force, and the daemon's cgroup has the daemon alone", async () => {
    expect(await cgroupsOf('alice')).toEqual([`${jobCgroup('n1', job)}/step_batch/user/task_0/stint`])
    expect(await on('n1', `cat ${jobCgroup('n1', job)}/step_batch/user/memory.max`)).toBe(String(300 * megabyte))
    await untilDaemonAlone()
  }, 4 * minute)

  describe('a job with 60 MB of memory and 20 MB in /dev/shm on the other node', () => {
    const script = [
      '#!/bin/bash', 'head -c 20M /dev/urandom >/dev/shm/file', 'sha256sum /dev/shm/file >sum',
      `python3 ${fixtures}/programs/hog.py 60 grow`, 'sha256sum --check sum && rm /dev/shm/file', "python3 -c 'x = b\"x\" * 400_000_000' && echo survived",
    ].join('\n')
    let hog: number
    let hogDirectory: string

    beforeAll(async () => {
      hogDirectory = await workDirectory()
      hog = await submit({ directory: hogDirectory, options: '--stint --time=30 --mem=200 --nodelist=n2', script })
      await untilState(await untilRunning(hog), hog, 'running')
      await untilPrinted(hogDirectory, /ready/, 60)
    }, 16 * minute)

    test('a restart of the service is nothing that a job notices', async () => {
      const mainPid = async (): Promise<string> => on('n2', 'systemctl show --value --property=MainPID stintd')
      const before = await mainPid()
      await on('n2', 'systemctl restart stintd')
      expect(await mainPid()).not.toBe(before)
      await untilState('n2', hog, 'running')
      expect((await showJob(hog)).get('Restarts')).toBe('0')
      expect(await on('n2', 'journalctl --unit=stintd --output=cat | grep -c "stintd is ready"')).toMatch(/^([2-9]|\d\d+)$/)
      expect(await endings()).toBe('Deactivated successfully.')
    }, 8 * minute)

    test('is saved by a CRIU out of the reach of its user, with the documented capabilities, outside of its cgroup and its memory', async () => {
      const peak = async (): Promise<number> => Number(await on('n2', `cat ${jobCgroup('n2', hog)}/memory.peak`))
      const before = await peak()
      const criu = await stopCriu(hog, `stint checkpoint --keep-running ${hog}`)
      expect(criu).toMatchObject({ uid: 0, cgroup: daemonCgroup, capabilities: new Set<string>(dumpCapabilities.filter((name) => !['setuid', 'setgid', 'dac_read_search'].includes(name))) })
      await criu.resume()
      await until('the checkpoint is sealed', 60, async () => (await status('n2', hog))?.checkpoints[0]?.state === 'sealed')
      expect((await peak()) - before).toBeLessThan(10 * megabyte)
      await untilDaemonAlone()
    }, 12 * minute)

    test('runs on undamaged when the service is restarted in the middle of a dump', async () => {
      const criu = await stopCriu(hog, `stint checkpoint ${hog}`)
      await on('n2', 'systemctl restart stintd')
      await untilState('n2', hog, 'dumping')
      await criu.resume()
      const run = await untilState('n2', hog, 'running')
      expect(await endings()).toBe('Deactivated successfully.')
      const cut = run.checkpoints.find((c) => c.number === 2)
      expect([cut?.state, cut?.error]).toEqual(['aborted', expect.stringMatching(/the daemon ended/)])
      expect((await showJob(hog)).get('Restarts')).toBe('0')
      await untilDaemonAlone()
    }, 12 * minute)

    test('is restored with the documented capabilities into its cgroup; its memory and files are charged to it, and it keeps its core and limits', async () => {
      const openFiles = async (): Promise<string> => on('n2', "awk '/^Max open files/ { print $4, $5 }' /proc/$(pgrep -f '[h]og.py 60 grow')/limits")
      const limits = await openFiles()
      // A hard limit above the daemon's own is what sys_resource is for.
      await on('n2', 'prlimit --pid=$(systemctl show --value --property=MainPID stintd) --nofile=2048:2048')
      const before = await memoryStat(daemonCgroup, 'shmem')
      await on('n2', `stint checkpoint ${hog}`)
      const criu = await stopCriu(hog, 'true')
      expect(criu).toMatchObject({ uid: 0, cgroup: `${jobCgroup('n2', hog)}/step_batch/user/task_0/stint`, capabilities: new Set<string>(restoreCapabilities) })
      await criu.resume()
      await untilState('n2', hog, 'running')
      expect(await memoryStat(jobCgroup('n2', hog), 'shmem')).toBeGreaterThan(20 * megabyte - 1)
      expect(await memoryStat(jobCgroup('n2', hog), 'anon')).toBeGreaterThan(60 * megabyte)
      expect((await memoryStat(daemonCgroup, 'shmem')) - before).toBeLessThan(5 * megabyte)
      expect(Number(limits.split(' ')[1])).toBeGreaterThan(2048)
      expect(await openFiles()).toBe(limits)
      const core = await on('n2', `cat ${jobCgroup('n2', hog)}/step_batch/user/cpuset.cpus`)
      expect(core).toMatch(/^\d$/)
      expect(await on('n2', "awk '/^Cpus_allowed_list/ { print $2 }' /proc/$(pgrep -f '[h]og.py 60 grow')/status")).toBe(core)
    }, 16 * minute)

    test('finds all of it as it was, and is ended by Slurm for more memory than its limit allows', async () => {
      await on('ctl', `touch ${hogDirectory}/grow`)
      expect((await untilEnded(hog, 120)).get('JobState')).toBe('OUT_OF_MEMORY')
      expect((await printed(hogDirectory)).split('\n')).toEqual(['ready', 'DONE True', '/dev/shm/file: OK'])
    }, 16 * minute)
  })

  describe('and has ended', () => {
    const output = async (): Promise<string[]> => (await printed(directory)).split('\n')
    let fields: ReadonlyMap<string, string>

    beforeAll(async () => {
      await untilState(await untilRunning(job, 2, 240), job, 'running')
      const before = (await output()).length
      await until('it counts on', 30, async () => (await output()).length > before)
      await on('ctl', `touch ${directory}/enough`)
      fields = await untilEnded(job, 60)
    }, 30 * minute)

    test("it had three stints under one job id and ends with the script's own exit code", () => {
      expect(Number(fields.get('Restarts'))).toBeGreaterThanOrEqual(2)
      expect(fields.get('ExitCode')).toBe('7:0')
    })

    test('it has printed every number once', async () => {
      const lines = await output()
      expect(lines).toEqual([...numbers(lines.length - 1), 'trap ran'])
    })

    test('it leaves no cgroup, mount, device or process behind, and the service runs', async () => {
      await until('nothing is left', 30, async () => (await leftovers('ctl', job)) === '')
      expect((await tryOn('ctl', 'systemctl is-active stintd')).stdout).toBe('active')
    }, 8 * minute)
  })
})

describe('a reboot of the machine', () => {
  test('with a saved job: it continues after the boot', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 --mem=300', script: 'count.sh', environment: { COUNT: 3000 } })
    const node = await untilRunning(job)
    await untilState(node, job, 'running')
    await on(node, `sleep 5; stint checkpoint ${job}`)
    await until('the job is requeued', 60, async () => (await showJob(job)).get('JobState') === 'PENDING')
    // It must not be started again in the moment before.
    await on('ctl', `scontrol hold ${job}`)
    // slurmctld writes down every few seconds what it has decided, and does not flush the directory; at a site it runs on another
    // machine than the job. Only the directory: what Stint has saved must be durable by itself.
    await on('ctl', 'touch /root/pending')
    await until('slurmctld has saved its state', 30, async () => (await on('ctl', 'find /var/spool/slurmctld/job_state -newer /root/pending')) !== '')
    await on('ctl', 'sync /var/spool/slurmctld')
    expect(await cluster('reboot')).toMatchObject({ exitCode: 0 })
    const saved = (await printed(directory)).split('\n').length
    await on('ctl', `scontrol release ${job}`)
    await until('it counts on', 120, async () => (await printed(directory)).split('\n').length > saved)
    await on('ctl', `touch ${directory}/enough`)
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('7:0')
    const lines = (await printed(directory)).split('\n')
    expect(lines).toEqual([...numbers(lines.length - 1), 'trap ran'])
  }, 24 * minute)
})
