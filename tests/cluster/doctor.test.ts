import { expect, test } from '@jest/globals'
import { on, tryOn } from '../support/cluster.ts'

interface Finding { subject: string; verdict: string; found: string }

test('stint doctor finds no fault on a node that is installed as the operations page says, and finds the plugin where Slurm does', async () => {
  const findings = JSON.parse(await on('n1', 'stint doctor --json')) as Finding[]
  expect(findings.filter((finding) => finding.verdict === 'fault')).toEqual([])
  expect(findings.find((finding) => finding.subject === 'Slurm plugin')?.found).toMatch(/\/spank_stint\.so, optional$/)
})

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
