import { describe, expect, test } from '@jest/globals'
import { leftovers, on, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../../support/cluster.ts'

const sleeper = '#!/bin/bash\necho ready\nsleep 120\n'
const catalogue = 'sqlite3 /var/lib/stint/catalogue.sqlite'

async function startJob(options: string): Promise<{ job: number; node: string; directory: string }> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 ${options}`, script: sleeper })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  await untilPrinted(directory, /ready/, 30)
  return { job, node, directory }
}

describe('the number of a sandbox\'s PID 1', () => {
  test('is given to a process of root: the daemon neither looks into it, nor enters it, nor ends it', async () => {
    const { job, node } = await startJob('')
    // The guard waits two seconds for an occupied cgroup, with PID 1 reaped and its connection open; stopped then, it is there for longer, as in a job that Slurm suspends.
    const said = await on(node, `
      guard=$(pgrep -f '[s]tint-init guard.* job=${job} '); pid1=$(pgrep -P $guard | head -n 1)
      cgroup=$(${catalogue} "SELECT payload_cgroup FROM members WHERE guard_pid = $guard AND state <> 'ended'")
      setsid sleep 60 </dev/null >/dev/null 2>&1 & occupant=$!
      echo $occupant > $cgroup/cgroup.procs
      kill -KILL $pid1
      while [[ -e /proc/$pid1 ]]; do :; done
      kill -STOP $guard
      for try in $(seq 300); do
        echo $((pid1 - 1)) > /proc/sys/kernel/ns_last_pid
        setsid tail -f /etc/shadow </dev/null >/dev/null 2>&1 & victim=$!
        [[ $victim == "$pid1" ]] && break
        kill $victim
      done
      echo $guard $pid1 $victim $occupant`)
    const [guard, pid1, victim, occupant] = said.trim().split(' ')
    expect(victim).toBe(pid1)
    try {
      const check = await tryOn(node, `stint check ${job} --json`, { user: 'alice' })
      expect(`${check.stdout}${check.stderr}`).not.toMatch(/shadow|stintd|slurmd/)
      expect((JSON.parse(check.stdout) as { processes?: number }).processes ?? 0).toBe(0)
      const saved = await tryOn(node, `stint checkpoint ${job} --keep-running --json`, { user: 'alice' })
      expect([saved.exitCode === 0, saved.stdout]).toEqual([false, expect.stringMatching(/E_NOT_RUNNING/)])
      await on(node, `kill -CONT ${guard}; kill ${occupant}`)
      await untilEnded(job, 30)
      await until('the sandbox is cleared away', 15, async () => (await leftovers(node, job)) === '')
      expect(await on(node, `tr '\\0' ' ' < /proc/${victim}/cmdline`)).toMatch(/^tail -f/)
      expect(await on(node, 'nft list tables; ip -o link show type veth')).not.toMatch(/stint_gate|stint_restore/)
    } finally {
      await tryOn(node, `kill -CONT ${guard}; kill ${occupant} ${victim}`)
    }
  }, 240_000)
})

describe('the audit record', () => {
  test('has who saved what, by the hash of its manifest, for whom it concerns, and is not changed', async () => {
    const { job, node } = await startJob('')
    await on(node, `stint checkpoint ${job} --keep-running`, { user: 'alice' })
    await on(node, `stint checkpoint ${job} --keep-running`)
    const rows = JSON.parse(await on(node, `stint audit --job ${job} --json`, { user: 'alice' })) as Record<string, unknown>[]
    const uid = Number(await on(node, 'id -u alice'))
    expect(rows.slice(0, 2)).toMatchObject([
      { action: 'save', uid: 0, channel: 'socket', job, owner: uid, user: 'alice', checkpoint: 2, outcome: 'done' },
      { action: 'save', uid, channel: 'socket', job, owner: uid, user: 'alice', checkpoint: 1, outcome: 'done' },
    ])
    const [image] = JSON.parse(await on(node, `stint images ${job} --json`)) as [{ directory: string }]
    expect((await on(node, `sha256sum ${image.directory}/manifest.json`)).split(' ')[0]).toBe(rows[0]?.['image'])
    expect(JSON.parse(await on(node, `stint audit --job ${job} --json`, { user: 'bob' }))).toEqual([])
    expect(JSON.parse(await on(node, `stint audit --user bob --job ${job} --since 1h --json`))).toEqual([])
    expect(await on(node, `stint audit --user alice --since 1h`)).toMatch(new RegExp(`uid ${uid} .*save +${job} +alice +1 +done`))
    for (const change of ['UPDATE audit SET uid = 0', 'DELETE FROM audit']) expect((await tryOn(node, `${catalogue} '${change}'`)).stderr).toMatch(/append-only|kept/)
    // Saved, requeued, restored, cancelled: the daemon's own deeds.
    await on(node, `stint checkpoint ${job}`, { user: 'alice' })
    const next = await untilRunning(job, 1)
    await until('it is restored', 40, async () => (await on(next, `stint audit --job ${job} --json`)).includes('"restore"'))
    expect(JSON.parse(await on(next, `stint audit --job ${job} --json`))).toContainEqual(expect.objectContaining({ action: 'restore', uid: null, channel: 'daemon', checkpoint: 3, outcome: 'done', image: expect.stringMatching(/^[\da-f]{64}$/) as unknown }))
    await on('ctl', `scancel ${job}`)
    await until('the removal is on record', 30, async () => (await on(next, `stint audit --job ${job} --json`)).includes('"remove"'))
  }, 240_000)
})
