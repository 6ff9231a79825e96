import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reclaimImages } from '../../daemon/actions/reclaim.ts'
import { makeContext, manifest, type TestContext } from '../support/context.ts'

const day = 86_400_000
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
  await reclaimImages(made.context)
  expect(left()).toEqual([6, 6])
})

test('images of a job that waits in the queue stay, however old', async () => {
  await seal(5, 1, 90)
  slurmSays(says('PENDING'))
  await reclaimImages(made.context)
  expect(left()).toEqual([5])
})

test('what slurmctld has forgotten goes; while it does not answer everything stays', async () => {
  await seal(5, 1, 9)
  slurmSays('echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1')
  await expect(reclaimImages(made.context)).rejects.toMatchObject({ code: 'E_SLURM' })
  expect(left()).toEqual([5])
  slurmSays('echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
  await reclaimImages(made.context)
  expect(left()).toEqual([])
})
