import { beforeAll, describe, expect, test } from '@jest/globals'
import { atOnce, leftovers, on, printed, showJob, submit, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { stopCriu } from '../support/machine.ts'

const minute = 60_000

describe('at the end of a job', () => {
  // Prints, and says so when a SIGTERM gets to it.
  const script = "#!/bin/bash\ntrap 'echo TERM; exit 9' TERM\nfor i in $(seq 1000); do echo $i; sleep 0.5; done\n"
  const small = '--stint --mem=200'
  let complaintsBefore: string
  const directories: Record<string, string> = {}
  const jobs: Record<string, number> = {}

  /** What slurmd and slurmstepd say about cgroups they cannot remove, and steps they cannot end. */
  async function complaints(): Promise<string> {
    return on('ctl', "grep -hiE 'error.*(cgroup|rmdir|not ending)|unable to (remove|destroy)|Device or resource busy|kill task failed' /var/log/slurm/slurmd.*.log || true")
  }

  beforeAll(async () => {
    complaintsBefore = await complaints()
    for (const [name, options] of [['cancelled', '--time=10 --nodelist=n1'], ['timed out', '--time=1 --no-requeue --nodelist=n1'], ['preempted', '--time=10 --nodelist=n2']] as const) {
      directories[name] = await workDirectory()
      jobs[name] = await submit({ directory: directories[name], options: `${small} ${options}`, script })
    }
    await atOnce(Object.values(jobs), async (job) => { await untilState(await untilRunning(job), job, 'running') })
  }, 16 * minute)

  const jobOf = (name: string): number => jobs[name] ?? 0
  const outputOf = async (name: string): Promise<string[]> => (await printed(directories[name] ?? '')).split('\n')

  test('by preemption without a grace, SIGTERM does not get to it before it is saved, and it goes on', async () => {
    const job = jobOf('preempted')
    expect(await on('ctl', 'scontrol show config | grep -c "^PreemptMode *= REQUEUE"; scontrol show partition batch | grep -o GraceTime=0')).toBe('1\nGraceTime=0')
    const urgent = await submit({ directory: await workDirectory(), options: '--partition=urgent --time=5 --nodelist=n2 --exclusive', script: '#!/bin/bash\nsleep 2\n' })
    await until(`job ${job} is preempted`, 60, async () => (await showJob(job)).get('Restarts') === '1')
    await until('it is pending', 60, async () => (await showJob(job)).get('JobState') === 'PENDING')
    expect((await untilEnded(urgent, 60)).get('ExitCode')).toBe('0:0')
    const node = await untilRunning(job, 1, 90)
    const run = await untilState(node, job, 'running')
    expect(run.checkpoints.map((c) => [c.trigger, c.state])).toEqual([['preemption', 'requeued']])
    const saved = (await outputOf('preempted')).length
    await until('it prints on', 60, async () => (await outputOf('preempted')).length > saved + 3)
    const output = await outputOf('preempted')
    expect(output).toEqual(output.map((_, i) => String(i + 1)))
    await on('ctl', `scancel ${job}`)
  }, 24 * minute)

  test('by scancel, SIGTERM gets to it', async () => {
    await on('ctl', `scancel ${jobOf('cancelled')}`)
    expect((await untilEnded(jobOf('cancelled'), 60)).get('JobState')).toBe('CANCELLED')
    expect((await outputOf('cancelled')).at(-1)).toBe('TERM')
  }, 12 * minute)

  test('by scancel, also while its user keeps a CRIU stopped', async () => {
    const job = await submit({ directory: await workDirectory(), options: `${small} --time=10 --nodelist=n1`, script })
    jobs['kept'] = job
    await untilState(await untilRunning(job), job, 'running')
    await stopCriu(job, `stint checkpoint ${job}`)
    await on('ctl', `scancel ${job}`)
    expect((await untilEnded(job, 60)).get('JobState')).toBe('CANCELLED')
  }, 24 * minute)

  test('by its limit, when it may not be requeued, SIGTERM gets to it', async () => {
    expect((await untilEnded(jobOf('timed out'), 150)).get('JobState')).toBe('TIMEOUT')
    expect((await outputOf('timed out')).at(-1)).toBe('TERM')
  }, 24 * minute)

  test('whichever it was, no cgroup, mount, device or process is left, and slurmd and stintd have nothing to complain about', async () => {
    await untilEnded(jobOf('preempted'), 60)
    for (const [name, job] of Object.entries(jobs)) await until(`nothing is left of the job that was ${name}`, 30, async () => (await leftovers('ctl', job)) === '')
    expect(await on('ctl', 'systemd-cgls --no-pager --full /system.slice')).not.toMatch(/job_|stint-init|criu/)
    expect(await on('ctl', 'pgrep -u alice || true')).toBe('')
    expect(await complaints()).toBe(complaintsBefore)
    expect(await on('ctl', 'journalctl --boot --unit=stintd --output=cat | grep E_INTERNAL || true')).toBe('')
  }, 16 * minute)
})
