import { describe, expect, test } from '@jest/globals'
import { atOnce, counter, numbers, on, printed, restartDaemon, showJob, status, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { buildChecker, doneLine, submitChecker, untilStep } from '../support/mpi.ts'

const minute = 60_000

/** Job id and node of a task that runs. Slurm gives a task an id of its own when it starts, the last one the array's. */
async function runningTask(array: number, task: number): Promise<{ job: number; node: string } | undefined> {
  const match = /^(\d+) (\S+)$/.exec(await on('ctl', `squeue -h -t RUNNING -j ${array}_${task} -o '%A %B'`))
  return match === null ? undefined : { job: Number(match[1]), node: match[2] ?? '' }
}

describe('an array of 20 tasks, and a job that depends on it', () => {
  test('tasks are saved and requeued one by one, also the last, whose id is the array\'s; afterok waits for all to end', async () => {
    const directory = await workDirectory()
    const script = '#!/bin/bash\nfor i in $(seq 1 60); do echo $i; sleep 0.2; done >task-$SLURM_ARRAY_TASK_ID.txt\necho $SLURM_ARRAY_TASK_ID >>ended.txt\n'
    const array = await submit({ directory, options: '--stint --time=10 --array=1-20', script })
    const after = await submit({ directory, options: `--time=1 --dependency=afterok:${array}`, script: '#!/bin/bash\nwc -l <ended.txt >after.txt\n' })
    // Four at once, when they run; the last task last.
    await atOnce([1, 2, 3, 20], async (task) => {
      const { job, node } = await until(`task ${task} runs`, 180, async () => runningTask(array, task))
      expect(job === array).toBe(task === 20)
      await untilState(node, job, 'running')
      expect(JSON.parse(await on(node, `stint checkpoint ${job} --json`))).toMatchObject({ trigger: 'request' })
      expect((await showJob(after)).get('JobState')).toBe('PENDING')
    })
    const fields = await untilEnded(after, 240)
    expect([fields.get('JobState'), await on('ctl', `cat ${directory}/after.txt`)]).toEqual(['COMPLETED', '20'])
    expect(await on('ctl', `sort -n ${directory}/ended.txt`)).toBe(numbers(20))
    expect(await on('ctl', `cat ${directory}/task-*.txt | sort -n | uniq -c | awk '{ print $1 }' | sort -u`)).toBe('20')
    const restarts = await on('ctl', `scontrol show job -o ${array} | grep -oE ' ArrayTaskId=[0-9]+| Restarts=[0-9]+' | paste - - | sed 's/[^0-9\\t]//g' | awk '$2 > 0 { print $1 }' | sort -n`)
    expect(restarts.split('\n')).toEqual(['1', '2', '3', '20'])
  }, 8 * minute)
})

interface Drained { node: string; endedAt: number | null; jobs: { job: number; outcome: string; checkpoint: number | null; error: { code: string } | null }[] }

describe('stint drain', () => {
  test('is refused to users, and for a node that Slurm does not know', async () => {
    for (const node of ['', 'n1']) {
      const refused = await tryOn('n3', `stint drain ${node}`, { user: 'alice' })
      expect([refused.exitCode, refused.stderr]).toEqual([77, expect.stringMatching(/E_FORBIDDEN/)])
    }
    const unknown = await tryOn('n3', 'stint drain n77 --json')
    expect([unknown.exitCode, JSON.parse(unknown.stdout)]).toEqual([9, expect.objectContaining({ code: expect.stringMatching(/^E_(SLURM|PEER)$/) as unknown })])
    expect(await on('ctl', 'sinfo -h -N -o %T | sort -u')).not.toMatch(/drain/)
  }, minute)

  test('saves what can be saved, which goes on elsewhere, lists the rest with its reason, and keeps the node from new jobs', async () => {
    const options = '--time=10 --nodelist=n3'
    const directory = await workDirectory()
    const [first, second] = [await submit({ directory, options: `--stint ${options}`, script: counter(150) }), await submit({ directory: await workDirectory(), options: `--stint ${options}`, script: counter(150) })]
    const queue = await submit({ directory: await workDirectory(), options: `--stint ${options}`, script: '#!/bin/bash\npython3 -c "\nimport ctypes, time\nq = ctypes.CDLL(None).mq_open(b\'/stint-test\', 0o102, 0o600, None)\nassert q >= 0\ntime.sleep(600)\n"\n' })
    const plain = await submit({ directory: await workDirectory(), options, script: '#!/bin/bash\nsleep 600\n' })
    try {
      for (const job of [first, second, queue]) {
        await untilRunning(job)
        await untilState('n3', job, 'running')
      }
      await untilRunning(plain)
      await on('n3', 'sleep 2')
      // From another node: the daemon there drains its own.
      const { exitCode, stdout } = await tryOn('n1', 'stint drain n3 --json --reason "new memory"')
      expect(exitCode).toBe(10)
      const { jobs } = JSON.parse(stdout) as Drained
      expect(Object.fromEntries(jobs.map((job) => [job.job, [job.outcome, job.error?.code]]))).toEqual({
        [first]: ['saved', undefined], [second]: ['saved', undefined], [queue]: ['failed', 'E_CRIU_DUMP_FAILED'], [plain]: ['failed', 'E_NO_SUCH_JOB'],
      })
      expect(await on('ctl', 'scontrol show node n3')).toMatch(/State=\S*DRAIN[^]*Reason=new memory/)
      expect((await status('n3', first))?.checkpoints.map((c) => [c.trigger, c.state])).toEqual([['drain', 'requeued']])
      await on('ctl', `for job in ${first} ${second}; do scontrol update jobid=$job reqnodelist=; done`)
      const fields = await untilEnded(first, 120)
      expect([fields.get('ExitCode'), fields.get('Restarts')]).toEqual(['3:0', '1'])
      expect(fields.get('BatchHost')).not.toBe('n3')
      expect(await printed(directory)).toBe(numbers(150))
      for (const job of [queue, plain]) expect((await showJob(job)).get('JobState')).toBe('RUNNING')
    } finally {
      await on('ctl', `scancel ${first} ${second} ${queue} ${plain}; scontrol update nodename=n3 state=resume || true`)
    }
  }, 5 * minute)

  test('saves a job over several nodes also when it is a member\'s node that is drained', async () => {
    const directory = await buildChecker(['mpich'])
    const subject = await submitChecker('mpich', { directory, nodes: 2, perNode: 1, steps: 600, options: '--nodelist=n1,n3' })
    const { job } = subject
    try {
      await untilStep(subject, 50)
      const { jobs } = JSON.parse(await on('n3', 'stint drain --json')) as Drained
      expect(jobs.map((j) => [j.job, j.outcome, j.checkpoint])).toEqual([[job, 'saved', 1]])
      await on('ctl', `scontrol update jobid=${job} reqnodelist=`)
      const fields = await untilEnded(job, 120)
      expect([fields.get('ExitCode'), fields.get('Restarts'), (await printed(directory)).split('\n').at(-1)]).toEqual(['0:0', '1', doneLine(subject)])
    } finally {
      await on('ctl', `scancel ${job}; scontrol update nodename=n3 state=resume || true`)
    }
  }, 5 * minute)

  test('follows Slurm by itself with drain.automatic_seconds', async () => {
    await on('n2', `printf '\\n[drain]\\nautomatic_seconds = 1\\n' >>/etc/stint/stint.toml`)
    await restartDaemon('n2')
    try {
      const directory = await workDirectory()
      const job = await submit({ directory, options: '--stint --time=10 --nodelist=n2', script: counter(100) })
      await untilRunning(job)
      await untilState('n2', job, 'running')
      await on('ctl', 'sleep 2; scontrol update nodename=n2 state=drain reason=memory-errors')
      await until('it is saved', 30, async () => (await status('n2', job))?.checkpoints.some((c) => c.trigger === 'drain' && c.state === 'requeued'))
      await on('ctl', `scontrol update jobid=${job} reqnodelist=`)
      const fields = await untilEnded(job, 120)
      expect([fields.get('ExitCode'), await printed(directory)]).toEqual(['3:0', numbers(100)])
    } finally {
      await on('ctl', 'scontrol update nodename=n2 state=resume')
      await on('n2', `sed -i '/^\\[drain\\]/,$d' /etc/stint/stint.toml`)
      await restartDaemon('n2')
    }
  }, 4 * minute)
})
