import { describe, expect, test } from '@jest/globals'
import { leftovers, on, printed, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, workDirectory } from '../support/cluster.ts'

/** The Slurm plugin with the real daemon: what a job sees of its sandbox, and how it ends. */

const minute = 60_000

interface Ended { exitCode: string; out: string; err: string; node: string; job: number }

/** Runs a script to its end; its files are read back. */
async function run(options: string, body: string): Promise<Ended> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--time=5 ${options}`, script: `#!/bin/bash\n${body}\n` })
  const fields = await untilEnded(job, 60)
  const node = fields.get('BatchHost') ?? ''
  await until('nothing is left behind', 5, async () => (await leftovers(node, job)) === '')
  return { exitCode: fields.get('ExitCode') ?? '', out: await printed(directory), err: await printed(directory, 'err.txt'), node, job }
}

describe('the option', () => {
  test.each([
    ['--stint=nett=host', 'stint: --stint does not know "nett=host"; known: net=private|host, signal=doorbell|pass, norollback=PATTERN[:PATTERN...], fallback=hold|start, continue=requeue|submit, every=never|auto|NUMBER[smhd], cron=MINUTE_HOUR_DAY_MONTH_WEEKDAY'],
    ['--stint=every=often', 'stint: --stint knows the key but not the value of "every=often"'],
    ['--stint=cron=0_*_*', 'stint: --stint knows the key but not the value of "cron=0_*_*"'],
    ['--stint=net=hosts', 'stint: --stint knows the key but not the value of "net=hosts"; known: net='],
    ['--stint=net', 'stint: --stint knows the key but not the value of "net"; known: net='],
    ['--stint=signal=pass,signal=pass', 'stint: --stint got a key twice: "signal=pass"; known: net='],
    ['--stint=norollback=data/x', 'stint: --stint knows the key but not the value of "norollback=data/x"; known: net='],
    ['--stint=,', 'stint: --stint does not know ""'],
  ])('sbatch %s is refused with what is known', async (option, message) => {
    const refused = await tryOn('ctl', `sbatch ${option} --wrap true`, { user: 'alice' })
    expect(refused.exitCode).not.toBe(0)
    expect(refused.stderr).toContain(message)
  }, minute)

  test.each(['srun', 'salloc'])('%s refuses it and says what to do', async (command) => {
    const refused = await tryOn('ctl', `${command} --stint true`, { user: 'alice' })
    expect(refused.exitCode).not.toBe(0)
    expect(refused.stderr).toContain(`--stint works with sbatch, not with ${command}: put the command into a batch script`)
  }, minute)
})

describe('srun inside a job', () => {
  test('in a private network ends at once with a remedy', async () => {
    const { out, err, exitCode } = await run('--stint', 'SECONDS=0; srun -n1 true; echo "$? $SECONDS"')
    expect(exitCode).toBe('0:0')
    expect(out).toMatch(/^1 [01]$/) // bash counts where a second of the clock begins.
    expect(err).toContain("srun cannot work in this job's private network: start ranks with mpirun, or submit the job with --stint=net=host")
  }, minute)

  test('works with net=host, although the job has --stint', async () => {
    expect(await run('--stint=net=host', 'srun -n1 echo hello')).toMatchObject({ out: 'hello', exitCode: '0:0' })
  }, minute)

  test('works in a job that only inherited the variables of another', async () => {
    expect(await run('--export=ALL,STINT_JOB_ID=1,STINT_NET=private', 'srun -n1 echo hello')).toMatchObject({ out: 'hello', exitCode: '0:0' })
  }, minute)
})

describe('the end of a job', () => {
  test.each([
    ['exit 7', '7:0'],
    ['kill -KILL $$', '0:9'],
    ['ulimit -c unlimited; kill -SEGV $$', '0:11'],
    ['kill -TERM $$', '0:15'],
    ['(sleep 30 &) ; exit 0', '0:0'],
    ['setsid sh -c "sleep 0.3; exit 9" & exit 5', '5:0'],
  ])('%s: ExitCode=%s as in a plain job', async (body, exitCode) => {
    const [plain, ours] = await Promise.all([run('', body), run('--stint', body)])
    expect([plain.exitCode, ours.exitCode]).toEqual([exitCode, exitCode])
  }, minute)

  test.each(['', '--stint'])('scancel with sbatch options "%s": a trap for TERM runs before the end', async (options) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--time=5 ${options}`, script: '#!/bin/bash\ntrap "echo trapped; exit 0" TERM\necho ready\nfor i in $(seq 100); do sleep 0.1; done\n' })
    const node = await untilRunning(job)
    await untilPrinted(directory, /ready/, 20)
    await on('ctl', `scancel --signal=TERM --batch ${job}`)
    await untilEnded(job, 20)
    expect(await printed(directory)).toBe('ready\ntrapped')
    await until('nothing is left behind', 5, async () => (await leftovers(node, job)) === '')
  }, minute)

  test('suspend stops the payload, resume continues it', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=5', script: '#!/bin/bash\nfor i in $(seq 60); do echo $i; sleep 0.1; done\n' })
    await untilRunning(job)
    const lines = async (): Promise<number> => (await printed(directory)).split('\n').length
    await until('it counts', 20, async () => (await lines()) > 5)
    await on('ctl', `scontrol suspend ${job} && sleep 3`)
    const before = await lines()
    await on('ctl', 'sleep 1')
    expect(await lines()).toBe(before)
    await on('ctl', `scontrol resume ${job}`)
    expect((await untilEnded(job, 30)).get('ExitCode')).toBe('0:0')
    expect(await lines()).toBe(60)
  }, minute)
})

describe('what a job sees', () => {
  test('is what a plain job sees: directory, identity, limits, CPUs, signals, environment', async () => {
    const body = [
      'pwd; umask; id; ulimit -a; nproc',
      "grep -E 'Groups|Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Mems_allowed_list' /proc/self/status",
      'taskset -p $$ | sed "s/.*: //" | tr -d "\\n" | tr "248" "111"; echo; ls -l /proc/self/fd | grep -c -- "->"; cat /proc/self/oom_score_adj',
      "env | grep -vE '^(SLURM_(JOB_?ID|TASK_PID|JOB_(END|START)_TIME|SUBMIT_DIR)|PWD|_)=' | sort",
    ].join('\n')
    const [plain, sandboxed] = [await run('--nodelist=n1', body), await run('--stint --nodelist=n1', body)]
    const set = await run('--stint --nodelist=n1', 'env')
    const ours = sandboxed.out.split('\n').filter((line) => !plain.out.split('\n').includes(line) && !line.startsWith('/shared/home/'))
    expect(ours.every((line) => /^(STINT_(JOB_ID|NET)|HYDRA_|PRTE_|OMPI_|MPICH_|UCX_|FI_)/.test(line))).toBe(true)
    expect(set.out).toMatch(new RegExp(`^STINT_JOB_ID=${set.job}$`, 'm'))
    const theirs = plain.out.split('\n').filter((line) => !sandboxed.out.split('\n').includes(line) && !line.startsWith('/shared/home/'))
    expect(theirs).toEqual([])
  }, minute)

  test('io_uring is absent under every number it has', async () => {
    const probe = `python3 -c "import ctypes; l = ctypes.CDLL(None, use_errno=True)\nfor n in (425, 0x40000000 | 425): print(l.syscall(n, 4, None), ctypes.get_errno())"`
    expect((await run('--stint', probe)).out).toBe('-1 38\n-1 38')
  }, minute)

  test('daemons it leaves behind hang below its own root, PID 1000', async () => {
    expect((await run('--stint', `(setsid sleep 5 &); until pgrep -x sleep >/dev/null; do :; done; ps -o ppid= -C sleep | tr -d ' '; echo $$`)).out).toBe('1000\n1001')
  }, minute)

  // CRIU fails on files of other mounts ("Can't lookup mount"), unless the root file system is an overlay as here.
  test('its standard streams are opened in its own mounts, where they stood, output and error still one file', async () => {
    const body = 'for fd in 0 1 2; do grep -q "^$(awk \'/mnt_id/ { print $2 }\' /proc/$$/fdinfo/$fd) " /proc/$$/mountinfo && echo own; done\necho to stderr >&2; echo to stdout'
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=5 --open-mode=truncate --error=out.txt', script: `#!/bin/bash\n${body}\n` })
    await untilEnded(job, 30)
    expect(await printed(directory)).toBe('own\nown\nown\nto stderr\nto stdout')
  }, minute)

  test('what the node mounts later appears in the sandbox', async () => {
    const directory = await workDirectory()
    await on('n1', 'mkdir -p /srv/late && mount --bind /srv /srv && mount --make-shared /srv')
    try {
      const job = await submit({ directory, options: '--stint --time=5 --nodelist=n1', script: '#!/bin/bash\necho ready\nfor i in $(seq 200); do mountpoint -q /srv/late && break; sleep 0.1; done\nmountpoint -q /srv/late && echo late\n' })
      await untilPrinted(directory, /ready/, 20)
      await on('n1', 'mount -t tmpfs late /srv/late')
      await untilEnded(job, 20)
      expect(await printed(directory)).toBe('ready\nlate')
    } finally {
      await on('n1', 'umount /srv/late; umount /srv')
    }
  }, minute)
})

describe('what a sandbox costs', () => {
  test('its three processes take less than 2 MB, and slurmstepd leaves nothing in them', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=5 --nodelist=n1', script: '#!/bin/bash\necho ready; sleep 20\n' })
    await untilPrinted(directory, /ready/, 20)
    const pids = (await on('n1', 'pgrep -f "^stint-init"')).split('\n')
    expect(pids).toHaveLength(3)
    const kilobytes = await on('n1', `cat ${pids.map((pid) => `/proc/${pid}/status`).join(' ')} | awk '/VmRSS/ { sum += $2 } END { print sum }'`)
    expect(Number(kilobytes)).toBeLessThan(2048)
    // guard: null, null, stderr, daemon, pid1, signalfd. pid1: three null, guard, the filter's listener, signalfd. root: three null.
    const descriptors = await Promise.all(pids.map((pid) => on('n1', `ls /proc/${pid}/fd | wc -l`)))
    expect(descriptors).toEqual(['6', '6', '3'])
    await on('ctl', `scancel ${job}`)
    await untilEnded(job, 20)
  }, minute)
})
