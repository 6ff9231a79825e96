import { expect, test } from '@jest/globals'
import { on, putCriuBack, restartDaemon, tryOn, until } from '../support/cluster.ts'

interface Finding { subject: string; verdict: string; found: string }

test('stint doctor finds no fault on a node that is installed as the operations page says, and finds the plugin where Slurm does', async () => {
  const findings = JSON.parse(await on('n1', 'stint doctor --json')) as Finding[]
  expect(findings.filter((finding) => finding.verdict === 'fault')).toEqual([])
  expect(findings.find((finding) => finding.subject === 'other nodes')?.found).toBe('4 of 4 asked, all answer')
  expect(findings.find((finding) => finding.subject === 'network of members')?.found).toBe('without encapsulation to 4 of 4 nodes tried')
  expect(findings.find((finding) => finding.subject === 'Slurm plugin')?.found).toMatch(/\/spank_stint\.so, optional$/)
})

test('a node with a full host name goes by the short one, as in Slurm: no fault, and it can be drained', async () => {
  const call = async (name: string): Promise<void> => {
    await on('n2', `hostname ${name}`)
    await restartDaemon('n2')
  }
  await call('n2.stint.test')
  try {
    const findings = JSON.parse(await on('n2', 'stint doctor --json')) as Finding[]
    expect(findings.filter((finding) => finding.verdict === 'fault')).toEqual([])
    expect(await on('n2', 'stint drain')).toBe('No jobs on n2; it is drained.')
    expect(await on('n2', 'sinfo --noheader --nodes=n2 --format=%T')).toBe('drained')
  } finally {
    await call('n2')
    await tryOn('n2', 'scontrol update nodename=n2 state=resume') // Refused where it was not drained.
  }
}, 60_000)

test('stint doctor says so when CRIU does not load what mends its silent losses', async () => {
  // File capabilities make the loader ignore LD_PRELOAD.
  await on('n2', 'cp /usr/sbin/criu /usr/sbin/criu.new && setcap cap_sys_ptrace+ep /usr/sbin/criu.new && ln /usr/sbin/criu /usr/sbin/criu.real && mv /usr/sbin/criu.new /usr/sbin/criu')
  try {
    const findings = JSON.parse((await tryOn('n2', 'stint doctor --json')).stdout) as Finding[]
    expect(findings.filter((finding) => finding.verdict === 'fault')).toEqual([{ subject: 'CRIU preload', verdict: 'fault', found: 'CRIU does not load it', remedy: expect.stringContaining('dynamically linked') as unknown }])
  } finally {
    await putCriuBack('n2')
  }
}, 60_000)

test('stint doctor says so, with exit code 1, when the plugin is not named in plugstack.conf', async () => {
  await on('n1', 'sed -i s/^optional/#optional/ /etc/slurm/plugstack.conf')
  try {
    const { exitCode, stdout } = await tryOn('n1', 'stint doctor')
    expect(exitCode).toBe(1)
    expect(stdout).toMatch(/fault +Slurm plugin +not named in \/etc\/slurm\/plugstack\.conf/)
  } finally {
    await on('n1', 'sed -i s/^#optional/optional/ /etc/slurm/plugstack.conf')
  }
})

test('stint doctor names another node whose daemon it does not reach, and what to do; users who may not connect are not told', async () => {
  await on('n1', 'cp -p /etc/ssh/ssh_known_hosts /run/known && sed -i /^n3,/d /etc/ssh/ssh_known_hosts')
  await restartDaemon('n1') // Its connections are of before.
  try {
    const { exitCode, stdout } = await tryOn('n1', 'stint doctor --json')
    expect(exitCode).toBe(1)
    expect((JSON.parse(stdout) as Finding[]).find((finding) => finding.subject === 'other nodes')).toEqual({
      subject: 'other nodes', verdict: 'fault', found: 'n3: no host key of n3 in /etc/ssh/ssh_known_hosts or /root/.ssh/known_hosts', remedy: expect.stringContaining('as "n3 KEY"') as unknown,
    })
    expect(await on('n1', 'stint doctor', { user: 'alice' })).not.toContain('other nodes')
  } finally {
    await on('n1', 'mv /run/known /etc/ssh/ssh_known_hosts')
  }
}, 60_000)

test('stint doctor asks no node that Slurm says is down, and has nothing to ask where no other is', async () => {
  let finding: Finding | undefined
  // A node that registers is up again (ReturnToService=2), and slurmctld asks for that every seven seconds.
  await until('doctor has nobody to ask', 40, async () => {
    await on('n1', 'scontrol update nodename=n[2-5] state=down reason=test')
    finding = (JSON.parse(await on('n1', 'stint doctor --json')) as Finding[]).find(({ subject }) => subject === 'other nodes')
    return finding?.found === 'not needed: Slurm knows no other that is up'
  })
  expect(finding?.verdict).toBe('ok')
  await until('all nodes are up again', 40, async () => (await on('n1', 'sinfo --noheader --states=idle --Format=nodes')).trim() === '5')
}, 90_000)
