import { describe, expect, test } from '@jest/globals'
import { cluster, on, submit, tryOn, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000
const rounds = 20

/** Runs both hooks as slurmd does, several times. @returns milliseconds of each call, sorted; throws when one ends with anything but 0 or says something */
async function times(node: string): Promise<number[]> {
  const script = `export SLURM_JOB_ID=4000000
    for i in $(seq ${rounds}); do for hook in prolog epilog; do
      a=$(date +%s%N); said=$(env -i SLURM_JOB_ID=$SLURM_JOB_ID 'SPANK__SLURM_SPANK_OPTION_stint_stint=(null)' /opt/stint/slurm-scripts/$hook.sh 2>&1) || exit 9; b=$(date +%s%N)
      [ -z "$said" ] || exit 8; echo $(((b - a) / 1000))
    done; done`
  return (await on(node, script)).split('\n').map((line) => Number(line) / 1000).toSorted((a, b) => a - b)
}

const median = (sorted: readonly number[]): number => sorted[Math.floor(sorted.length / 2)] ?? NaN

/** The daemon's process, not its supervisor. */
const daemonPid = 'cat /run/stint-supervisor/stintd.pid'

describe('Prolog and Epilog', () => {
  test('take less than 100 ms and end with 0, with stintd alive, hanging and dead', async () => {
    const alive = await times('n1')
    await on('n1', `kill -STOP $(${daemonPid})`)
    const hanging = await times('n1').finally(async () => on('n1', `kill -CONT $(${daemonPid})`))
    await cluster('daemon', 'n1', 'stop')
    const dead = await times('n1').finally(async () => cluster('daemon', 'n1', 'start'))
    for (const measured of [alive, hanging, dead]) {
      expect(measured).toHaveLength(2 * rounds)
      expect(median(measured)).toBeLessThan(100)
      expect(measured.at(-1)).toBeLessThan(5000)
    }
  }, minute)

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
