import { expect, test } from '@jest/globals'
import { cluster, on } from '../support/cluster.ts'

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

test('Prolog and Epilog take less than 100 ms and end with 0, with stintd alive, hanging and dead', async () => {
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
