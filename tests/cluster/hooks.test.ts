import { describe, expect, test } from '@jest/globals'
import { on, submit, tryOn, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000

/** The daemon's process, not its supervisor. */
const daemonPid = 'cat /run/stint-supervisor/stintd.pid'

describe('Prolog and Epilog', () => {
  test('take less than 5 s and end with 0 when the socket of a hanging stintd takes no more connections', async () => {
    const spent = await on('n1', `kill -STOP $(${daemonPid})
      python3 - <<'END'
import os, socket, subprocess, time
held = []
while True:
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect('/run/stint/sandbox.sock')
    except BlockingIOError:
        break
    held.append(s)
for hook in ('prolog', 'epilog'):
    start = time.monotonic()
    code = subprocess.run(['/opt/stint/slurm-scripts/%s.sh' % hook], env={'SLURM_JOB_ID': '4000000', 'SPANK__SLURM_SPANK_OPTION_stint_stint': '(null)'}).returncode
    print(code, time.monotonic() - start)
END
      kill -CONT $(${daemonPid})`)
    for (const line of spent.split('\n')) {
      const [code, seconds] = line.split(' ').map(Number)
      expect(code).toBe(0)
      expect(seconds).toBeLessThan(5)
    }
  }, minute)

  test('are run by slurmd: the image is read before the restore, which does not read it again', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 --nodelist=n2', script: '#!/bin/bash\nwhile [ ! -e go ]; do sleep 0.2; done\nexit 3\n' })
    await untilRunning(job)
    await untilState('n2', job, 'running')
    await on('n2', `stint checkpoint ${job}`)
    await untilRunning(job, 1)
    await untilState('n2', job, 'running')
    const lines = (await on('n2', `grep -h '"job":${job},' /var/log/stint/stintd.log`)).split('\n').map((line) => JSON.parse(line) as { msg: string })
    const messages = lines.map(({ msg }) => msg)
    expect(messages.filter((msg) => msg === 'image verified before its restore')).toHaveLength(1)
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
    expect((await untilEnded(job, 60)).get('ExitCode')).toBe('3:0')
    expect(await tryOn('n2', `ls /run/stint/sandboxes/${job}`)).toMatchObject({ exitCode: 2 })
    expect((await on('ctl', 'sinfo -h -N -o %T')).split('\n')).not.toContain('drained')
  }, 2 * minute)
})
