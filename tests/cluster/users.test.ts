import { describe, expect, test } from '@jest/globals'
import { leftovers, on, printed, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000
const sleeper = '#!/bin/bash\necho ready\nsleep 60\n'

describe('another user', () => {
  test('can neither see, check nor checkpoint a job, nor read anything of its image', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10', script: sleeper })
    const node = await untilRunning(job)
    await untilState(node, job, 'running')
    expect((await tryOn(node, `stint checkpoint ${job} --keep-running`, { user: 'alice' })).exitCode).toBe(0)
    for (const verb of ['status', 'check', 'checkpoint']) {
      const refused = await tryOn(node, `stint ${verb} ${job}`, { user: 'bob' })
      expect(refused.exitCode).toBe(77)
      expect(refused.stderr).toMatch(/E_FORBIDDEN/)
    }
    expect((JSON.parse(await on(node, 'stint status --json', { user: 'bob' })) as { user: string }[]).filter(({ user }) => user !== 'bob')).toEqual([])
    expect(JSON.parse(await on(node, `stint status ${job} --json`, { user: 'alice' }))).toMatchObject({ job, state: 'running', checkpoints: [{ state: 'sealed' }] })
    expect(JSON.parse(await on(node, `stint images ${job} --json`, { user: 'bob' }))).toEqual([])
    const [image] = JSON.parse(await on(node, `stint images ${job} --json`, { user: 'alice' })) as [{ directory: string }]
    for (const user of ['alice', 'bob'] as const) {
      expect((await tryOn(node, `ls ${image.directory}`, { user })).exitCode).not.toBe(0)
      expect((await tryOn(node, 'echo status | timeout 2 nc -U /run/stint/sandbox.sock || python3 -c "import socket; socket.socket(socket.AF_UNIX).connect(\'/run/stint/sandbox.sock\')"', { user })).stderr).toMatch(/Permission denied/)
    }
    expect(await on(node, `find /shared/stint -not -user root -o -perm /077 | grep -v '/criu/' || true`)).toBe('')
    await on('ctl', `scancel ${job}`)
    await until('the images are gone', 20, async () => (await on(node, `ls /shared/stint/${job} 2>/dev/null || true`)) === '')
  }, 2 * minute)
})

describe('scancel', () => {
  test('ends a sandboxed job as fast as a plain one and leaves nothing behind', async () => {
    const seconds: Record<string, number> = {}
    for (const options of ['--time=10', '--time=10 --stint']) {
      const directory = await workDirectory()
      const job = await submit({ directory, options, script: sleeper })
      const node = await untilRunning(job)
      await untilPrinted(directory, /ready/, 20)
      const started = Date.now()
      await on('ctl', `scancel ${job}; while squeue -h -j ${job} | grep -q .; do sleep 0.05; done`)
      seconds[options] = (Date.now() - started) / 1000
      await untilEnded(job, 30)
      await until('nothing is left behind', 10, async () => (await leftovers(node, job)) === '')
    }
    expect(seconds['--time=10 --stint']).toBeLessThan((seconds['--time=10'] ?? 0) + 1)
  }, 2 * minute)
})

describe('a job without --stint', () => {
  test('sees no difference: same namespaces as the node, no process and no file of ours', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--time=10', script: '#!/bin/bash\nfor n in pid mnt net uts ipc; do readlink /proc/self/ns/$n; done; env | grep -c STINT; sleep 3\n' })
    const node = await untilRunning(job)
    expect(await leftovers(node, job).then((text) => text.split('\n').filter((line) => line.includes('stint')))).toEqual([])
    await untilEnded(job, 30)
    const lines = (await printed(directory)).split('\n')
    expect(lines).toEqual([...(await on(node, 'for n in pid mnt net uts ipc; do readlink /proc/self/ns/$n; done')).split('\n'), '0'])
  }, minute)
})
