import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reclaim } from '../../daemon/images/prune.ts'
import { alice, makeContext, manifest, type TestContext } from '../support/context.ts'

const day = 86_400_000
const nightly = { uid: undefined, dryRun: false, now: false }
let made: TestContext

beforeEach(() => { made = makeContext() })
afterEach(async () => { await made[Symbol.asyncDispose]() })

async function seal(job: number, checkpoint: number, daysOld: number): Promise<void> {
  const described = { ...manifest, run: `run-${job}`, job, checkpoint, createdAt: Date.now() - daysOld * day }
  const key = { ...described, coordinator: 'n1' }
  await using draft = made.context.store.begin(key, true)
  draft.seal({ ...described, files: await draft.finish() })
  made.context.store.publish(key)
}

/** What scontrol answers from now on, whatever it is asked. */
function slurmSays(script: string): void {
  writeFileSync(join(made.folder, 'scontrol'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}

const says = (state: string): string => `echo "JobId=$4 JobName=x UserId=alice(1001) GroupId=alice(1001) JobState=${state} Requeue=1 Restarts=0 Command=/x"`
const left = (): number[] => made.context.store.list().map(({ manifest }) => manifest.job).toSorted()

test('images of a job that timed out go when the newest is older than store.keep_days, and not before', async () => {
  await seal(5, 1, 9)
  await seal(6, 1, 9)
  await seal(6, 2, 6)
  slurmSays(says('TIMEOUT'))
  await reclaim(made.context, nightly)
  expect(left()).toEqual([6, 6])
})

test('images of a job that waits in the queue stay, however old', async () => {
  await seal(5, 1, 90)
  slurmSays(says('PENDING'))
  await reclaim(made.context, nightly)
  expect(left()).toEqual([5])
})

test('what slurmctld has forgotten goes; while it does not answer everything stays', async () => {
  await seal(5, 1, 9)
  slurmSays('echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1')
  await expect(reclaim(made.context, nightly)).rejects.toMatchObject({ code: 'E_SLURM' })
  expect(left()).toEqual([5])
  slurmSays('echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
  await reclaim(made.context, nightly)
  expect(left()).toEqual([])
})

test('a dry run removes nothing and says what would go and why; --now does not wait; a user reclaims their own only', async () => {
  await seal(5, 1, 9)
  await seal(6, 1, 0)
  slurmSays(says('TIMEOUT'))
  expect(await reclaim(made.context, { ...nightly, dryRun: true })).toEqual([{ job: 5, run: 'run-5', user: 'alice', what: 'images', bytes: 1, reason: 'the job is over (TIMEOUT), 9 days old' }])
  expect(left()).toEqual([5, 6])
  expect(await reclaim(made.context, { ...nightly, uid: alice + 1, now: true })).toEqual([])
  expect((await reclaim(made.context, { ...nightly, uid: alice, now: true })).map(({ job }) => job).toSorted()).toEqual([5, 6])
  expect(left()).toEqual([])
})

test('images of a run that came to its own end go store.keep_finished_days after that, whatever the age of the image', async () => {
  await seal(5, 1, 1)
  made.context.store.markFinished(5, 'run-5')
  slurmSays(says('COMPLETED'))
  expect(await reclaim(made.context, nightly)).toHaveLength(1)
})

test.each([
  ['its job waits', 'PENDING', 0, true],
  ['its job is over', 'FAILED', 0, true],
  ['its job runs and it is written to', 'RUNNING', 0, false],
  ['its job runs, but nothing was written for two days', 'RUNNING', 2, true],
])('what a dead node left unfinished: %s', async (_, state, idleDays, goes) => {
  const directory = join(made.folder, 'store/5/run-5/.unfinished-n9-0001')
  mkdirSync(join(directory, 'm0'), { recursive: true })
  const at = Date.now() / 1000 - idleDays * 86_400
  for (const path of [join(directory, 'm0'), directory]) utimesSync(path, at, at)
  slurmSays(says(state))
  expect((await reclaim(made.context, nightly)).map(({ what }) => what)).toEqual(goes ? ['unfinished'] : [])
  expect(readdirSync(join(made.folder, 'store'))).toEqual(goes ? [] : ['5'])
  expect(await reclaim(made.context, { ...nightly, uid: alice })).toEqual([])
})
