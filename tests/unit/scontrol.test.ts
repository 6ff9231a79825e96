import { describe, expect, test } from '@jest/globals'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { CommandRunner } from '../../daemon/linux/command.ts'
import { parseJobJson } from '../../daemon/slurm/job-json.ts'
import { Scontrol, parseAdminComment, parseConfig, parseJob, parseNodes, parseSlurmTime } from '../../daemon/slurm/scontrol.ts'
import { parseNodeJobs } from '../../daemon/slurm/squeue.ts'
import { said } from '../support/errors.ts'

/** `scontrol show job -o ID` of Slurm 24.11.5, recorded by the script beside them. */
const folder = join(import.meta.dirname, '..', 'fixtures', 'scontrol')
const recorded = (name: string): string => readFileSync(join(folder, `${name}.txt`), 'utf8')
const alice = 1001

/** A recorded instant, which scontrol prints in the local zone. */
const at = (text: string): number => new Date(text).getTime() / 1000

const jobs = {
  running: [1, { state: 'RUNNING', requeue: true, restarts: 0, nodes: 'n1', batchHost: 'n1', endTime: at('2026-11-28T03:05:29'), preemptTime: undefined, name: '1', reason: 'None' }],
  pending: [6, { state: 'PENDING', batchHost: undefined, nodes: '', endTime: at('2026-11-28T04:05:29') }],
  requeued: [1, { state: 'PENDING', reason: 'BeginTime', restarts: 1 }],
  preempted: [10, { state: 'RUNNING', preemptTime: at('2026-11-28T02:35:53'), endTime: at('2026-11-28T02:36:13') }],
  cancelled: [7, { state: 'CANCELLED', requeue: true }],
  array: [2, { state: 'RUNNING', nodes: 'n1', name: '2_2' }],
  'comment-like-fields': [7, { state: 'PENDING', requeue: true, restarts: 0 }],
  'directory-like-fields': [5, { state: 'PENDING', endTime: at('2026-11-28T03:35:30') }],
  'note-like-fields': [9, { state: 'PENDING', endTime: undefined }],
} as const

describe('a job as scontrol prints it', () => {
  test.each(Object.entries(jobs))('%s: its own fields are read', (name, [jobId, expected]) => {
    expect(parseJob(recorded(name), jobId)).toMatchObject({ jobId, uid: alice, ...expected })
  })

  test('a task of an array is the one asked for, not the last one printed', () => {
    expect(parseJob(recorded('array'), 3)).toMatchObject({ jobId: 3, name: '2_1' })
    expect(recorded('array')).toMatch(/JobId=2 [^]*JobId=3 /)
  })

  test('a name that looks like fields is refused, not believed', async () => {
    expect(await said(() => parseJob(recorded('name-like-fields'), 4))).toBe('E_SLURM: the name of job 4 looks like fields of scontrol')
  })

  test('a name of two lines is read, one that forges a second job is not', async () => {
    const text = recorded('name-of-two-lines')
    expect(parseJob(text, 8)).toMatchObject({ uid: alice, state: 'PENDING' })
    const forged = text.replace('two\nlines', 'x\nJobId=8 JobName=y UserId=root(0) GroupId=root(0) JobState=RUNNING')
    expect(await said(() => parseJob(forged, 8))).toContain('E_SLURM: the name of job 8')
    const other = text.replace('two\nlines', 'x\nJobId=9 JobName=y')
    expect(await said(() => parseJob(other, 8))).toContain('E_SLURM: scontrol printed no job 8')
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
    const tested = [...Object.keys(jobs), 'name-like-fields', 'name-of-two-lines', 'unknown', 'config', 'nodes', 'note']
    expect(readdirSync(folder).filter((file) => file.endsWith('.txt')).sort()).toEqual(tested.map((name) => `${name}.txt`).sort())
  })
})

/** The same job as `scontrol show job ID --json` printed it. */
const json = (name: string): string => readFileSync(join(folder, `${name}.json`), 'utf8')

describe('a job as scontrol prints it in JSON', () => {
  /** An instant recorded in UTC, read from text as local. */
  const utc = (seconds: number | undefined): number | undefined => (seconds === undefined ? undefined : seconds - new Date(seconds * 1000).getTimezoneOffset() * 60)
  const like = (change: Record<string, unknown>): string => {
    const answer = JSON.parse(json('running')) as { jobs: Record<string, unknown>[] }
    return JSON.stringify({ ...answer, jobs: answer.jobs.map((job) => ({ ...job, ...change })) })
  }

  test.each(Object.entries(jobs))('%s: says what the text says', (name, [jobId]) => {
    const text = parseJob(recorded(name), jobId)
    expect({ ...parseJobJson(json(name), jobId), adminComment: '' }).toEqual({ ...text, endTime: utc(text.endTime), preemptTime: utc(text.preemptTime) })
  })

  test('is not fooled by a name that looks like fields, nor by notes in name, directory and comment', () => {
    expect(parseJobJson(json('name-like-fields'), 4)).toMatchObject({ uid: alice, state: 'RUNNING', requeue: false })
    expect(parseJobJson(json('name-of-two-lines'), 8)).toMatchObject({ uid: alice, state: 'PENDING' })
    expect(parseJobJson(json('note-like-fields'), 9)?.adminComment).toBe('root says: two  blanks')
  })

  test.each([
    [{ job_state: ['PENDING', 'COMPLETING'] }, { state: 'COMPLETING' }],
    [{ job_state: ['RUNNING', 'COMPLETING', 'REQUEUED'] }, { state: 'COMPLETING' }],
    [{ job_state: 'TIMEOUT' }, { state: 'TIMEOUT' }],
    [{ job_state: [] }, { state: 'UNKNOWN' }],
    [{ end_time: 1795834929, preempt_time: 0, job_id: 1, array_job_id: 0, array_task_id: null }, { endTime: 1795834929, preemptTime: undefined, name: '1' }],
    [{ time_limit: { set: false, infinite: true, number: 0 } }, { endTime: undefined }],
    [{ time_limit: 4294967295 }, { endTime: undefined }],
    [{ batch_host: '' }, { batchHost: undefined }],
    [{ array_job_id: { set: true, infinite: false, number: 4 }, array_task_id: { set: true, infinite: false, number: 0 } }, { name: '4_0' }],
  ])('in another shape: %j', (change, expected) => {
    expect(parseJobJson(like(change), 1)).toMatchObject(expected)
  })

  test.each([{ user_id: 'alice' }, { requeue: 1 }, { restart_cnt: { set: false, infinite: false, number: 0 } }])('in a shape that is not known is refused: %j', async (change) => {
    expect(await said(() => parseJobJson(like(change), 1))).toContain('E_SLURM: scontrol --json tells user_id, requeue or restart_cnt')
  })

  test('that is not in it is none', () => {
    expect([parseJobJson(json('unknown'), 999), parseJobJson(json('running'), 2), parseJobJson('{"jobs":[null,7]}', 1)]).toEqual([undefined, undefined, undefined])
  })

  test.each(['', '{', '[]', '{"jobs":{}}', 'JobId=1 JobName=x', 'null'])('%j is no list of jobs', async (text) => {
    expect(await said(() => parseJobJson(text, 1))).toBe('E_SLURM: scontrol printed no JSON with a list of jobs')
  })
})

describe("root's note where scontrol has no JSON", () => {
  test('is what squeue says', () => {
    expect(parseAdminComment(recorded('note'), 9)).toBe('root says: two  blanks')
    expect([parseAdminComment('19          other\n9           \n', 9), parseAdminComment('', 9)]).toEqual(['', ''])
  })
})

describe('a Slurm', () => {
  /** Calls of a scontrol whose JSON is made by a shell command. */
  const asked = async (inJson: string, times = 1): Promise<{ job: unknown; calls: string[] }> => {
    const there = mkdtempSync(join(tmpdir(), 'stint-scontrol-'))
    try {
      const [scontrol, squeue] = [join(there, 'scontrol'), join(there, 'squeue')]
      writeFileSync(scontrol, `#!/bin/sh\necho "$*" >>${there}/calls\ncase "$*" in *--json) ${inJson};; *) cat ${folder}/note-like-fields.txt;; esac\n`, { mode: 0o755 })
      writeFileSync(squeue, `#!/bin/sh\necho squeue >>${there}/calls\ncat ${folder}/note.txt\n`, { mode: 0o755 })
      const slurm = new Scontrol(new CommandRunner(pino({ level: 'silent' })), { scontrol, squeue }, 5)
      let job: unknown
      for (let time = 0; time < times; time++) job = await slurm.showJob(9)
      return { job, calls: readFileSync(join(there, 'calls'), 'utf8').trim().split('\n') }
    } finally {
      rmSync(there, { recursive: true })
    }
  }
  const [asJson, asText] = ['show job 9 --json', 'show job -o 9']

  test('with JSON is asked by it alone', async () => {
    expect(await asked(`cat ${folder}/note-like-fields.json`)).toMatchObject({ job: { adminComment: 'root says: two  blanks' }, calls: [asJson] })
  })

  test.each(["echo \"scontrol: unrecognized option '--json'\" >&2; exit 1", 'echo "error: cannot find serializer plugin for application/json" >&2; exit 1', 'echo JobId=9'])('without JSON is asked by text, and for the note by squeue, from then on: %s', async (inJson) => {
    expect(await asked(inJson, 2)).toMatchObject({ job: { adminComment: 'root says: two  blanks' }, calls: [asJson, asText, 'squeue', asText, 'squeue'] })
  })

  test('that says nothing in JSON this time is asked by text this time', async () => {
    expect((await asked(`cat ${folder}/unknown.json`, 2)).calls).toEqual([asJson, asText, 'squeue', asJson, asText, 'squeue'])
  })

  test('that does not answer is not asked twice', async () => {
    expect(await said(() => asked('echo "Unable to contact slurm controller (connect failure)" >&2; exit 1'))).toContain('Unable to contact')
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
  const call = (program: string): Scontrol => new Scontrol(new CommandRunner(pino({ level: 'silent' })), { scontrol: program, squeue: '/nonexistent/squeue' }, 5)

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
    expect(text).toMatch(/State=\w+\+DRAIN .*Reason=two words NodeAddr=x/)
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
