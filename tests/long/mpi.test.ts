import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { move, nodesOf, on, printed, showJob, submit, until, untilEnded, untilRunning, workDirectory } from '../support/cluster.ts'
import { allNodes, buildChecker, doneLine, expectNothingLeft, rightFor, saveAndMove, sharedCores, submitChecker, untilStep, type Flavour, type MpiJob } from '../support/mpi.ts'

const minute = 60_000
const linpack = readFileSync(join(import.meta.dirname, '..', '..', 'slurm-scripts', 'examples', 'hpl.sh'), 'utf8')

describe('High Performance Linpack over 3 nodes', () => {
  test('solves its systems through three one-minute stints or more, each on other nodes, and every residual check is passed', async () => {
    const directory = await workDirectory()
    const systems = 6
    const script = linpack.replace('--ntasks=2', '--ntasks=3').replace('--nodes=1', '--nodes=3')
    const job = await submit({ directory, options: '--stint --time=1', script: `${script.replace('set -euo pipefail', `set -euo pipefail\n${sharedCores}`)}\n`, environment: { HPL_N: 4500, HPL_COUNT: systems } })
    const used: string[] = []
    let ended = false
    for (let restarts = 0; !ended; restarts++) {
      await untilRunning(job, restarts, 90)
      const nodes = await nodesOf(job)
      used.push(nodes.join())
      ended = await until(`stint ${restarts + 1} is over`, 120, async () => {
        const fields = await showJob(job)
        if (['COMPLETED', 'FAILED', 'TIMEOUT', 'NODE_FAIL', 'CANCELLED'].includes(fields.get('JobState') ?? '')) return { over: true }
        return fields.get('JobState') === 'PENDING' ? { over: false } : undefined
      }).then(({ over }) => over)
      if (!ended) await on('ctl', `scontrol update jobid=${job} excnodelist=${nodes[restarts % 3] ?? ''}`)
    }
    expect((await showJob(job)).get('ExitCode')).toBe('0:0')
    expect(used.length).toBeGreaterThanOrEqual(3)
    expect(used.slice(1).every((nodes, at) => nodes !== used[at])).toBe(true)
    const results = await on('ctl', `cat ${directory}/hpl-${job}/hpccoutf.txt`)
    expect(results.match(/\.\.\.\.\.\. PASSED/g)).toHaveLength(systems)
    expect(results).not.toMatch(/FAILED/)
  }, 12 * minute)
})

test('an MPICH job of 4 nodes is saved three times, moves twice, and gets every number right; no connection is reset', async () => {
  await saveAndMove('mpich')
}, 8 * minute)

describe('a script with several mpirun calls', () => {
  test('is saved in the middle of each, moves, and ends with every result right', async () => {
    const directory = await buildChecker(['mpich', 'openmpi'])
    const call = (flavour: Flavour, name: string, options = ''): string => `mpirun.${flavour} ${options} ./allreduce.${flavour} 1000000 512 5000 ${name}.end >>${name}.txt 2>>${name}.err || exit 1`
    const script = [
      '#!/bin/bash', sharedCores,
      call('mpich', 'first'), call('openmpi', 'second', '-n 3 --map-by node'), call('mpich', 'third', '-n 4 -ppn 2'),
      `${call('mpich', 'left', '-n 2 -ppn 1')} & left=$!`, `${call('openmpi', 'right', '-n 4')} & right=$!`, 'wait $left && wait $right', 'exit $?', '',
    ].join('\n')
    const job = await submit({ directory, options: '--stint --time=20 -N 2 --ntasks-per-node=2', script })
    let nodes = [await untilRunning(job)]
    nodes = await nodesOf(job)
    const stepIn = (name: string) => async (): Promise<boolean> => (await on('ctl', `grep -c ^step ${directory}/${name}.txt 2>/dev/null || true`)) >= '2'
    const ranks = { first: 4, second: 3, third: 4, left: 2, right: 4 }
    let restarts = 0
    for (const name of ['first', 'second', 'third']) {
      await until(`${name} is under way`, 60, stepIn(name))
      nodes = await move(job, nodes[0] ?? '', ++restarts, [nodes[1] ?? ''])
      await on('ctl', `touch ${directory}/${name}.end`, { user: 'alice' })
    }
    await until('both are under way', 60, async () => (await stepIn('left')()) && (await stepIn('right')()))
    await on(nodes[0] ?? '', `stint checkpoint ${job} --keep-running`)
    nodes = await move(job, nodes[0] ?? '', ++restarts, nodes)
    await on('ctl', `touch ${directory}/left.end ${directory}/right.end`, { user: 'alice' })
    expect((await untilEnded(job, 180)).get('ExitCode')).toBe('0:0')
    for (const [name, count] of Object.entries(ranks)) {
      const done = (await printed(directory, `${name}.txt`)).split('\n').at(-1) ?? ''
      expect(done).toBe(rightFor(done, count))
    }
    await expectNothingLeft(allNodes, job)
  }, 10 * minute)
})

describe('where ranks run', () => {
  test('is said as ever: by rankfile, host file and host list with the names of the allocation', async () => {
    const directory = await workDirectory()
    const script = `#!/bin/bash
set -- $(scontrol show hostnames $SLURM_JOB_NODELIST)
printf "rank 0=$2 slot=0\\nrank 1=$1 slot=0\\nrank 2=$2 slot=1\\n" >rankfile
printf "$2 slots=2\\n$1 slots=1\\n" >hostfile
printf "$2:2\\n$1:1\\n" >machinefile
echo $2 $1
for ranks in "openmpi -n 3 --map-by rankfile:file=rankfile" "openmpi -n 3 --hostfile hostfile" "mpich -f machinefile -n 3" "openmpi -n 2 --host $2,$1" "mpich -hosts $2,$1 -n 2"; do
  mpirun.$ranks hostname | sort | paste -sd ' '
done
`
    const job = await submit({ directory, options: '--stint --time=10 -N 2 --ntasks-per-node=2', script })
    expect((await untilEnded(job, 120)).get('ExitCode')).toBe('0:0')
    const [hosts = '', ...found] = (await printed(directory)).split('\n')
    const [second = '', first = ''] = hosts.split(' ')
    const three = [first, second, second].join(' ')
    const two = [first, second].join(' ')
    expect(found).toEqual([three, three, three, two, two])
  }, 4 * minute)
})

describe('a saved job that is given fewer nodes than it has members', () => {
  test('is held with the reason; with nodes enough it goes on when it is released', async () => {
    const job = await submitChecker('openmpi', { directory: await buildChecker(['openmpi']), nodes: 3, perNode: 1, steps: 600 })
    const node = await untilRunning(job.job)
    await untilStep(job, 50)
    await on(node, `stint checkpoint ${job.job}`)
    await until('it waits', 30, async () => (await showJob(job.job)).get('JobState') === 'PENDING')
    await on('ctl', `scontrol update jobid=${job.job} numnodes=2 numtasks=2`)
    await until('it is held', 60, async () => (await on('ctl', `squeue -h -j ${job.job} -o %k`, { user: 'alice' })).includes('E_TOO_FEW_NODES'))
    await on('ctl', `scontrol update jobid=${job.job} numnodes=3 numtasks=3; scontrol release ${job.job}`)
    expect((await untilEnded(job.job, 180)).get('ExitCode')).toBe('0:0')
    expect((await printed(job.directory)).split('\n').at(-1)).toBe(doneLine(job))
  }, 5 * minute)
})

describe('two jobs of two users on the same nodes', () => {
  test('have networks of their own, and neither reaches the addresses or images of the other', async () => {
    const start = async (user: 'alice' | 'bob', directory: string): Promise<MpiJob> => submitChecker('mpich', { directory, nodes: 2, perNode: 2, steps: 4000, user, options: '--nodelist=n1,n2' })
    const jobs = [await start('alice', await buildChecker(['mpich'])), await start('bob', await buildChecker(['mpich'], 'bob'))] as const
    for (const job of jobs) await untilStep(job, 50)
    const addresses = await Promise.all(jobs.map(async ({ job }) => on('n1', `pid1=$(pgrep -P $(pgrep -f '[s]tint-init guard.* job=${job} ')); nsenter --net=/proc/$pid1/ns/net ip -o -4 addr show stint0 | grep -o '100[^/]*'`)))
    expect(addresses[0]).not.toBe(addresses[1])
    const reach = async (from: number, to: string): Promise<boolean> => (await on('n1', `pid1=$(pgrep -P $(pgrep -f '[s]tint-init guard.* job=${from} ')); nsenter --net=/proc/$pid1/ns/net ping -c 1 -W 1 ${to} >/dev/null && echo yes || echo no`)) === 'yes'
    const second = (address = ''): string => address.replace(/1$/, '2')
    for (const [own, other] of [[0, 1], [1, 0]] as const) {
      expect(await reach(jobs[own].job, second(addresses[own]))).toBe(true)
      expect(await reach(jobs[own].job, addresses[other] ?? '')).toBe(false)
      expect(await reach(jobs[own].job, second(addresses[other]))).toBe(false)
    }
    await on('n1', `stint checkpoint ${jobs[0].job} --keep-running`)
    const image = (JSON.parse(await on('n1', `stint images ${jobs[0].job} --json`)) as { directory: string }[])[0]?.directory ?? ''
    expect(await on('n2', `cat ${image}/manifest.json 2>&1 || true`, { user: 'bob' })).toMatch(/Permission denied/)
    for (const { job } of jobs) await on('ctl', `scancel ${job}`)
    for (const { job } of jobs) await expectNothingLeft(['n1', 'n2'], job)
  }, 5 * minute)
})

describe('what ends a job of several nodes leaves nothing on any of them', () => {
  async function started(options = ''): Promise<{ job: MpiJob; nodes: string[] }> {
    const job = await submitChecker('openmpi', { directory: await buildChecker(['openmpi']), nodes: 3, perNode: 1, steps: 100_000, options })
    await untilStep(job, 50)
    return { job, nodes: await nodesOf(job.job) }
  }

  test('scancel', async () => {
    const { job, nodes } = await started()
    await on('ctl', `scancel ${job.job}`)
    await untilEnded(job.job, 30)
    await expectNothingLeft(nodes, job.job)
  }, 3 * minute)

  test('the walltime, with a store that cannot be used', async () => {
    const { job, nodes } = await started('--time=1')
    for (const node of nodes) await on(node, 'mkdir -p /tmp/empty && chmod 755 /tmp/empty && mount --bind /tmp/empty /shared/stint')
    try {
      expect((await untilEnded(job.job, 180)).get('JobState')).toBe('TIMEOUT')
      await expectNothingLeft(nodes, job.job)
    } finally {
      for (const node of nodes) await on(node, 'umount /shared/stint')
    }
  }, 5 * minute)
})
