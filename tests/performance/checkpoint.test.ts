import { describe, expect, test } from '@jest/globals'
import { dumpCapabilities } from '../../plugins/engines/criu/capabilities.ts'
import { on, programMs, status, untilRunning, untilState, type CheckpointJson } from '../support/cluster.ts'
import { submitHog } from '../support/hog.ts'

const minute = 60_000
const capabilities = ['-all', ...dumpCapabilities.map((name) => `+${name}`)].join(',')

/**
 * What we do while the payload stands still and a bare dump does not, in starts of a small program: unshare, the barrier's client,
 * for open files nsenter, setpriv and stint-init, and forks of Node.js, which is large. The limit is for a machine that starts
 * a program in 1 ms.
 */
const morePrograms = 20

/**
 * Makes the hypervisor give its memory back first: page cache that is touched for the first time runs at a fifth of the
 * speed, and whichever variant comes first would pay for both.
 */
async function warmMemory(node: string): Promise<void> {
  await on(node, 'dd if=/dev/zero of=/shared/stint/warm bs=1M count=2200 status=none; sync -f /shared/stint; rm /shared/stint/warm')
}

/** A plain `criu dump` of the same payload into the same file system, CRIU where it must be for that: seconds until it ends, and until its files are on the device. */
async function bareDump(node: string, megabytes: number): Promise<{ dumped: number; flushed: number }> {
  const [started = NaN, dumped = NaN, flushed = NaN] = (await on(node, `set -e
    pid=$(pgrep -f 'hog.py ${megabytes}' | head -n 1); uid=$(stat -c %u /proc/$pid)
    mkdir -m 777 /shared/stint/bare; trap 'rm -rf /shared/stint/bare' EXIT
    date +%s.%N
    nsenter --target=$pid --pid --mount --net --uts --wd=/ -- setpriv --reuid=$uid --regid=$uid --clear-groups --inh-caps=${capabilities} --ambient-caps=${capabilities} -- \\
      criu dump --unprivileged --no-default-config --tree 1000 --images-dir /shared/stint/bare --log-file dump.log -v4 --manage-cgroups=ignore \\
      --tcp-established --network-lock=skip --file-locks --leave-running
    date +%s.%N
    sync /shared/stint/bare/*
    date +%s.%N`)).split('\n').map(Number)
  return { dumped: dumped - started, flushed: flushed - started }
}

describe('a job with 2 GB of resident memory', () => {
  // Both variants by turns. Of each the least counts: what else a machine does only ever adds to it.
  test('stands still, and is saved, within 1.25 times the time of a bare criu dump of the same process into the same directory', async () => {
    const { job, node: first } = await submitHog(2000, 10)
    let node = first
    let number = 0
    const checkpoint = async (options: string): Promise<CheckpointJson | undefined> => {
      await warmMemory(node)
      await on(node, `stint checkpoint ${job} ${options}`)
      const last = (await status(node, job))?.checkpoints.at(-1)
      expect(last?.number).toBe(++number)
      return last
    }
    try {
      const rounds: { dumped: number; flushed: number; frozen: number }[] = []
      const least = (what: 'dumped' | 'flushed' | 'frozen'): number => Math.min(...rounds.map((round) => round[what]))
      const morePerProgram = Math.max(0, await programMs(node) - 1) / 1000
      const frozenLimit = (): number => 1.25 * least('dumped') + morePrograms * morePerProgram
      while (rounds.length < 3 || (rounds.length < 6 && least('frozen') >= frozenLimit())) {
        await warmMemory(node)
        const bare = await bareDump(node, 2000)
        rounds.push({ ...bare, frozen: ((await checkpoint('--keep-running'))?.frozenMs ?? NaN) / 1000 })
      }
      const [dumped, flushed, frozen] = [least('dumped'), least('flushed'), least('frozen')]
      const limit = { frozen: frozenLimit(), sealed: 1.25 * flushed }
      // Before a requeue: beside a payload that runs on nothing waits for the seal, and the image is flushed only once that runs.
      let sealed = (await checkpoint(''))?.seconds ?? NaN
      for (let restarts = 1; sealed >= limit.sealed && restarts < 3; restarts++) {
        node = await untilRunning(job, restarts, 90)
        await untilState(node, job, 'running')
        sealed = Math.min(sealed, (await checkpoint(''))?.seconds ?? NaN)
      }
      console.log(`seconds: bare criu dump ${dumped.toFixed(2)}, its files flushed ${flushed.toFixed(2)}; frozen with --keep-running ${frozen.toFixed(2)} of ${limit.frozen.toFixed(2)}; trigger to seal before a requeue ${sealed.toFixed(2)} of ${limit.sealed.toFixed(2)}`)
      expect(frozen).toBeLessThan(limit.frozen)
      expect(sealed).toBeLessThan(limit.sealed)
    } finally {
      await on('ctl', `scancel ${job}`)
    }
  }, 8 * minute)
})
