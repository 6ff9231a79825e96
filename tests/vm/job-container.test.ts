import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { leftovers, move, on, printed, submit, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000

/** Lets Slurm run with these lines beside slurm.conf; no job may run. */
async function setVariant(lines: string): Promise<void> {
  await on('ctl', 'cat >/etc/slurm/variant.conf', { input: `${lines}\n` })
  await on('ctl', 'systemctl restart slurmctld slurmd@n1 slurmd@n2')
  await until('both nodes are idle', 60, async () => (await on('ctl', 'sinfo --noheader --responding --Node --partition=batch --states=idle --format=%N')) === 'n1\nn2')
}

describe('with job_container/tmpfs', () => {
  beforeAll(async () => { await setVariant('JobContainerType=job_container/tmpfs\nPrologFlags=Contain') }, 16 * minute)
  afterAll(async () => { await setVariant('DebugFlags=NO_CONF_HASH') }, 16 * minute)

  test("a job has the /tmp and /dev/shm that Slurm made, and takes them along to another node's", async () => {
    const directory = await workDirectory()
    const script = `#!/bin/bash
findmnt --noheadings --output=SOURCE --target=/tmp | tail -n 1
findmnt --noheadings --output=TARGET | grep -c -E '/(tmp|dev/shm)$'
echo in tmp >/tmp/file; echo in shm >/dev/shm/file
exec 5>/tmp/removed; rm /tmp/removed
for ((i = 1; ; i++)); do echo $i; echo $i >&5; [[ ! -e end ]] || break; sleep 0.5; done
findmnt --noheadings --output=SOURCE --target=/tmp | tail -n 1
cat /tmp/file /dev/shm/file; wc -l </proc/self/fd/5
`
    const job = await submit({ directory, options: '--stint --time=10 --mem=300', script })
    const first = await untilRunning(job)
    await untilState(first, job, 'running')
    await untilPrinted(directory, /\n2\n3$/m, 30)
    // What else Slurm starts for the job sees the same files: the task outside of the sandbox is in Slurm's own namespace.
    expect(await on(first, `cat /proc/$(pgrep -f '[g]uard mode=start job=${job} ')/root/tmp/file`)).toBe('in tmp')
    const [second = ''] = await move(job, first, 1)
    expect(second).not.toBe(first)
    await on('ctl', `touch ${directory}/end`)
    expect((await untilEnded(job, 90)).get('ExitCode')).toBe('0:0')
    const source = (node: string): string => `/dev/vda[/var/lib/slurm-tmp/${node}/${job}/.${job}/_tmp]`
    const lines = (await printed(directory)).split('\n')
    const count = Number(lines.at(-1))
    expect(count).toBeGreaterThan(3)
    expect(lines).toEqual([source(first), '3', ...Array.from({ length: count }, (_, i) => String(i + 1)), source(second), 'in tmp', 'in shm', String(count)])
    await until('nothing is left', 30, async () => (await leftovers('ctl', job)) === '')
    expect(await on('ctl', `find /var/lib/slurm-tmp -mindepth 2 -name '*${job}*'`)).toBe('')
  }, 24 * minute)
})
