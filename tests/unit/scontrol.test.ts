import { describe, expect, test } from '@jest/globals'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { CommandRunner } from '../../daemon/linux/command.ts'
import { Scontrol, parseConfig, parseJob, parseNodes, parseSlurmTime } from '../../daemon/slurm/scontrol.ts'
import { parseNodeJobs } from '../../daemon/slurm/squeue.ts'
import { said } from '../support/errors.ts'

/** `scontrol show job -o ID` of Slurm 24.11.5, recorded by the script beside them. */
const folder = join(import.meta.dirname, '..', 'fixtures', 'scontrol')
const recorded = (name: string): string => readFileSync(join(folder, `${name}.txt`), 'utf8')
const alice = 1001

/** A recorded instant, which scontrol prints in the local zone. */
const at = (text: string): number => new Date(text).getTime() / 1000

const jobs = {
  running: [1, { state: 'RUNNING', requeue: true, restarts: 0, nodes: 'n1', batchHost: 'n1', endTime: at('2026-11-24T00:32:05'), preemptTime: undefined, name: '1', reason: 'None' }],
  pending: [5, { state: 'PENDING', batchHost: undefined, nodes: '', endTime: at('2026-11-24T01:32:05') }],
  requeued: [1, { state: 'COMPLETING', restarts: 1, endTime: undefined }],
  preempted: [9, { state: 'RUNNING', preemptTime: at('2026-11-24T00:02:54'), endTime: at('2026-11-24T00:03:14') }],
  cancelled: [6, { state: 'CANCELLED', requeue: true }],
  array: [2, { state: 'RUNNING', nodes: 'n1', name: '2_2' }],
  'comment-like-fields': [6, { state: 'PENDING', requeue: true, restarts: 0 }],
  'directory-like-fields': [4, { state: 'PENDING', endTime: at('2026-11-24T01:02:05') }],
} as const

describe('a job as scontrol prints it', () => {
  test.each(Object.entries(jobs))('%s: its own fields are read', (name, [jobId, expected]) => {
    expect(parseJob(recorded(name), jobId)).toMatchObject({ jobId, uid: alice, ...expected })
  })

  test('a task of an array is the one asked for, not the last one printed', () => {
    expect(parseJob(recorded('array'), 8)).toMatchObject({ jobId: 8, name: '2_1' })
    expect(recorded('array')).toMatch(/JobId=2 [^]*JobId=8 /)
  })

  test('a name that looks like fields is refused, not believed', async () => {
    expect(await said(() => parseJob(recorded('name-like-fields'), 3))).toBe('E_SLURM: the name of job 3 looks like fields of scontrol')
  })

  test('a name of two lines is read, one that forges a second job is not', async () => {
    const text = recorded('name-of-two-lines')
    expect(parseJob(text, 7)).toMatchObject({ uid: alice, state: 'PENDING' })
    const forged = text.replace('two\nlines', 'x\nJobId=7 JobName=y UserId=root(0) GroupId=root(0) JobState=RUNNING')
    expect(await said(() => parseJob(forged, 7))).toContain('E_SLURM: the name of job 7')
    const other = text.replace('two\nlines', 'x\nJobId=8 JobName=y')
    expect(await said(() => parseJob(other, 7))).toContain('E_SLURM: scontrol printed no job 7')
  })

  test('a name that hides the rest behind a false Command is refused', async () => {
    expect(await said(() => parseJob(recorded('running').replace('job.sh', 'x Command=y'), 1))).toContain('E_SLURM')
  })

  test.each(['', '\n', 'JobId=', 'JobId=1', 'JobId=1 JobName=x', recorded('unknown'), 'JobId=x UserId=a(1) GroupId=b(1)', '\u0000'])('%j is no job', async (text) => {
    expect(await said(() => parseJob(text, 1))).toContain('E_SLURM: scontrol printed no job 1')
  })

  test('another job than the one asked for is none', async () => {
    expect(await said(() => parseJob(recorded('running'), 2))).toContain('E_SLURM: scontrol printed no job 2')
  })

  test('every recorded text is tested', () => {
    const tested = [...Object.keys(jobs), 'name-like-fields', 'name-of-two-lines', 'unknown', 'config', 'nodes']
    expect(readdirSync(folder).filter((file) => file.endsWith('.txt')).sort()).toEqual(tested.map((name) => `${name}.txt`).sort())
  })
})

describe('a time of Slurm', () => {
  test.each([undefined, '', 'Unknown', 'None', 'N/A', '2026-11-24', '2026-13-45T99:00:00', 'yesterdayT'])('%j is none', (text) => {
    expect(parseSlurmTime(text)).toBeUndefined()
  })

  test('is local', () => {
    expect(parseSlurmTime('2026-11-24T00:32:05')).toBe(new Date(2026, 10, 24, 0, 32, 5).getTime() / 1000)
  })
})

describe('the configuration of slurmctld', () => {
  test('is read key by key, the headings are not', () => {
    const config = parseConfig(recorded('config'))
    expect(['JobRequeue', 'PluginDir', 'SLURM_VERSION', 'JobFileAppend', 'AuthInfo'].map((key) => config.get(key))).toEqual(['1', '/usr/lib/x86_64-linux-gnu/slurm-wlm', '24.11.5', '1', 'cred_expire=10'])
    expect([...config.keys()].filter((key) => /\s|^Configuration$/.test(key))).toEqual([])
  })
})

describe('scontrol', () => {
  const call = (program: string): Scontrol => new Scontrol(new CommandRunner(pino({ level: 'silent' })), program, 5)

  test('that is missing is told as E_SLURM with its path', async () => {
    expect(await said(() => call('/nonexistent/scontrol').showJob(1))).toMatch(/^E_SLURM: \/nonexistent\/scontrol /)
  })

  test('that fails is told as E_SLURM with its exit code', async () => {
    expect(await said(() => call('/bin/false').showJob(1))).toContain('E_SLURM: /bin/false ended with 1')
  })

  test('that prints nothing told no job', async () => {
    expect(await said(() => call('/bin/true').showJob(1))).toBe('E_SLURM: scontrol printed no job 1: ')
  })
})

describe('nodes as scontrol prints them', () => {
  const text = recorded('nodes')

  test('have name and address; a drained one is up, and words of its reason are no fields', () => {
    expect(text).toMatch(/State=IDLE\+DRAIN .*Reason=two words NodeAddr=x/)
    expect(parseNodes(text).at(-1)).toEqual({ name: 'n1', address: 'n1', up: true })
  })

  test.each(['DOWN', 'IDLE*', 'DOWN*+DRAIN', 'IDLE+NOT_RESPONDING', 'FUTURE', 'UNKNOWN', 'IDLE+CLOUD+POWERED_DOWN'])('that are %s are not up', (state) => {
    expect(parseNodes(text.replace(/State=\S+/, `State=${state}`))).toEqual([{ name: 'n1', address: 'n1', up: false }])
  })

  test('elsewhere have the address that slurm.conf gives', () => {
    expect(parseNodes(text.replace('NodeAddr=n1 ', 'NodeAddr=10.1.2.3 '))).toMatchObject([{ name: 'n1', address: '10.1.2.3' }])
  })

  test.each(['', '\n', 'Node n7 not found', 'NodeName='])('%j is none', (nothing) => {
    expect(parseNodes(nothing)).toEqual([])
  })
})

test('squeue: the jobs of a node', () => {
  expect(parseNodeJobs('12 alice\n7 bob\n\n')).toEqual([{ jobId: 12, user: 'alice' }, { jobId: 7, user: 'bob' }])
  expect(parseNodeJobs('')).toEqual([])
})
