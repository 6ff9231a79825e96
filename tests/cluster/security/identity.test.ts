import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { fixtures, on, printed, putCriuBack, replaceCriu, showJob, status, submit, tryOn, until, untilPrinted, untilRunning, untilState, workDirectory, type RunJson } from '../../support/cluster.ts'

/**
 * What CRIU writes of a job's identity comes out of memory that the user can write. A criu in the place of the real one rewrites the
 * images, at the barrier of a dump or behind all looks at an image before a restore (fixtures/security/).
 */

const minute = 60_000
const node = 'n1'

/** The job whose images are forged while they are made, one after the other. */
let forged: Promise<Job> | undefined

/** Appends a number each fifth of a second; its protections are those that are forged. */
const script = `#!/bin/bash
echo precious > data; exec 9<data
exec setpriv --no-new-privs bash -c 'for i in $(seq 1 1000); do echo $i >> lines; sleep 0.2; done'
`

interface Job { readonly id: number; readonly directory: string }

async function start(): Promise<Job> {
  const directory = await workDirectory()
  const id = await submit({ directory, options: `--stint --time=10 --nodelist=${node}`, script })
  await untilRunning(id)
  await untilState(node, id, 'running')
  await untilPrinted(directory, /^2$/m, 20, 'lines')
  return { id, directory }
}

async function forge(job: Job, when: 'dump' | 'restore', kinds: string): Promise<void> {
  await on(node, `mkdir -p /usr/sbin/forge.d && echo ${kinds} > /usr/sbin/forge.d/${job.id}.${when}`)
}

async function goesOn({ directory }: Job): Promise<void> {
  const before = await printed(directory, 'lines')
  await until('the job goes on', 10, async () => (await printed(directory, 'lines')) !== before)
}

/** Saved twice; only the second may be tried. @returns what it had written when it was saved */
async function save(job: Job): Promise<string> {
  await on(node, `stint checkpoint ${job.id} --keep-running`)
  await on(node, `stint checkpoint ${job.id}`)
  return printed(job.directory, 'lines')
}

/** Held with the reason, no instruction of it has run, and nobody tried the older checkpoint. */
async function heldUntouched(job: Job, lines: string, reason: RegExp): Promise<void> {
  await until(`job ${job.id} is held`, 90, async () => (await showJob(job.id)).get('Priority') === '0')
  expect(await printed(job.directory, 'lines')).toBe(lines)
  const run = await status(node, job.id) as RunJson
  expect(run.error).toMatch(reason)
  const tried = run.events.filter(({ kind }) => kind === 'restore-failed').map(({ detail }) => `${String(detail['checkpoint'])} ${String(detail['code'])}`)
  expect([...new Set(tried)]).toEqual(['2 E_IDENTITY_CHANGED'])
  expect(await on(node, `stint status ${job.id}`)).toMatch(reason)
  await on('ctl', `scancel ${job.id}`)
}

beforeAll(async () => replaceCriu(node, await on(node, `cat ${fixtures}/security/criu-forging`)))
afterAll(async () => {
  if (forged !== undefined) await on('ctl', `scancel ${(await forged).id}`)
  await putCriuBack(node)
  await on(node, 'rm -rf /usr/sbin/forge.d')
})

describe('an image forged while it is made', () => {
  test.each([
    ['all-uids all-caps', /user ids in the image 0,0,0,0/],
    ['fsuid', /user ids in the image \d{4},\d{4},\d{4},0/],
    ['sgid groups', /group ids in the image .*supplementary groups in the image 0/],
    ['permitted', /permitted capabilities in the image 000001ffffffffff/],
    ['ambient', /ambient capabilities in the image 000001ffffffffff/],
    ['bounding', /bounding set in the image 0000000000000000/],
    ['no-new-privs', /no_new_privs in the image 0, at the freeze 1/],
    ['securebits', /securebits in the image 0x20/],
    ['seccomp', /seccomp mode in the image 0, at the freeze 2/],
  ])('(%s) is not sealed; the job runs on', async (kinds, reason) => {
    forged ??= start()
    const job = await forged
    await forge(job, 'dump', kinds)
    const refused = await tryOn(node, `stint checkpoint ${job.id}${kinds === 'fsuid' ? '' : ' --keep-running'}`)
    expect(refused.stderr).toMatch(reason)
    expect(refused.stderr).toMatch(/^stint: E_IDENTITY_CHANGED/m)
    await goesOn(job)
    expect((await status(node, job.id))?.checkpoints.filter(({ state }) => state !== 'aborted')).toEqual([])
  }, minute)
})

describe('a job that would come back as another than it was', () => {
  test('is ended before its first instruction and held with the reason; the older checkpoint is not tried', async () => {
    /** @param change made once the job waits in the queue */
    const play = async (change: (job: Job) => Promise<unknown>, reason: RegExp): Promise<void> => {
      const job = await start()
      const lines = await save(job)
      await change(job)
      await heldUntouched(job, lines, reason)
    }
    await Promise.all([
      play(async (job) => forge(job, 'restore', 'all-uids'), /was not restored as it was: thread 1000 of PID 1000: user ids now 0,0,0,0/),
      play(async (job) => forge(job, 'restore', 'no-new-privs seccomp'), /no_new_privs now 0, at the freeze 1/),
      play(async ({ directory }) => on('ctl', `chown bob ${directory}/data`), /descriptor 9 of PID \d+ \(\S+\/data\) has another owner/),
    ])
  }, 4 * minute)
})
