import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { engineDirectory } from '../../daemon/context.ts'
import { lookAtWaiting, type Asked } from '../../daemon/node/waiting.ts'
import { Squeue } from '../../daemon/slurm/squeue.ts'
import { makeContext, manifest, type TestContext } from '../support/context.ts'

/** Runs that this node has seen and has no sandbox of: what becomes of their images and logs when Slurm says this of their jobs. */

let made: TestContext
let asked: Asked

beforeEach(() => {
  const plain = makeContext()
  made = { ...plain, context: { ...plain.context, squeue: new Squeue(plain.context.commands, join(plain.folder, 'squeue'), 5) } }
  asked = new Map()
})
afterEach(async () => { await made[Symbol.asyncDispose]() })

/** What squeue prints from now on; `calls` below the folder has what it was asked. */
function slurmSays(states: Record<number, string>, instead = ''): void {
  const lines = Object.entries(states).map(([job, state]) => `echo '${job}|${state}'`)
  writeFileSync(join(made.folder, 'squeue'), `#!/bin/sh\necho "$*" >>'${made.folder}/calls'\n${instead}\n${lines.join('\n')}\n`, { mode: 0o755 })
  writeFileSync(join(made.folder, 'calls'), '')
}

const calls = (): string[] => readFileSync(join(made.folder, 'calls'), 'utf8').split('\n').filter((line) => line !== '')
const left = (): number[] => made.context.store.list().map((image) => image.manifest.job).toSorted()
const hasLogs = (job: number): boolean => existsSync(engineDirectory(made.context, job))

/** A run that was saved here, requeued, and has left its logs. */
async function saved(job: number): Promise<void> {
  const run = `run-${job}`
  made.addRun(job)
  const described = { ...manifest, run, job, createdAt: Date.now() }
  const key = { ...described, coordinator: 'n1' }
  await using draft = made.context.store.begin(key, true)
  draft.seal({ ...described, files: await draft.finish() })
  made.context.store.publish(key)
  const { id } = made.context.catalogue.checkpoints.begin(run, 1, 'request', false, 1)
  const { checkpoints } = made.context.catalogue
  for (const phase of ['written', 'sealed'] as const) checkpoints.reach(id, phase)
  checkpoints.commit(id)
  checkpoints.setRequeued(id)
  mkdirSync(engineDirectory(made.context, job), { recursive: true })
}

const look = async (): Promise<void> => lookAtWaiting(made.context, asked)

test('one that is cancelled while it waits loses its image and its logs at the next look', async () => {
  await saved(5)
  slurmSays({ 5: 'PENDING' })
  await look()
  expect([left(), hasLogs(5)]).toEqual([[5], true])
  slurmSays({ 5: 'CANCELLED' })
  await look()
  expect([left(), hasLogs(5)]).toEqual([[], false])
  expect(made.context.catalogue.runs.get('run-5')?.ended_at).not.toBeNull()
  slurmSays({})
  await look()
  expect(calls()).toEqual([])
})

test('all are asked about with one call, and none without any', async () => {
  slurmSays({ 5: 'PENDING', 6: 'PENDING' })
  await look()
  expect(calls()).toEqual([])
  await saved(5)
  await saved(6)
  await look()
  expect(calls()).toEqual(['--noheader --jobs=5,6 --states=all --format=%A|%T'])
})

test.each(['TIMEOUT', 'NODE_FAIL'])('the image of one that ended by %s goes by its age; its logs go', async (state) => {
  await saved(5)
  slurmSays({ 5: state })
  await look()
  expect([left(), hasLogs(5)]).toEqual([[5], false])
})

test('what slurmctld has forgotten keeps its image for the night; when slurmctld does not answer nothing happens', async () => {
  await saved(5)
  slurmSays({}, 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1')
  await expect(look()).rejects.toMatchObject({ code: 'E_SLURM' })
  expect([left(), hasLogs(5)]).toEqual([[5], true])
  slurmSays({}, 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
  await look()
  expect([left(), hasLogs(5)]).toEqual([[5], false])
})

test('one that goes on elsewhere is asked about less often, and its logs here go when it is over', async () => {
  await saved(5)
  slurmSays({ 5: 'RUNNING' })
  await look()
  await look()
  expect([calls().length, hasLogs(5)]).toEqual([1, true])
  asked.clear() // Ten minutes later.
  slurmSays({ 5: 'COMPLETED' })
  await look()
  expect(hasLogs(5)).toBe(false)
})

test('one whose requeue is not accepted yet, and one with a sandbox here, are nothing to look at', async () => {
  await saved(5)
  const { id } = made.context.catalogue.checkpoints.begin('run-5', 2, 'walltime', false, 1)
  for (const phase of ['written', 'sealed'] as const) made.context.catalogue.checkpoints.reach(id, phase)
  made.context.catalogue.checkpoints.commit(id)
  made.addSandbox(6)
  mkdirSync(engineDirectory(made.context, 6), { recursive: true })
  slurmSays({ 5: 'CANCELLED', 6: 'CANCELLED' })
  await look()
  expect([calls(), left(), hasLogs(6)]).toEqual([[], [5], true])
})

test('logs of a run that failed here stay as long as its image may', async () => {
  await saved(5)
  made.context.catalogue.runs.setError('run-5', 'E_CRIU_RESTORE_FAILED', 'no')
  slurmSays({ 5: 'TIMEOUT' })
  await look()
  expect(hasLogs(5)).toBe(true)
  const old = Date.now() / 1000 - 9 * 86_400
  utimesSync(engineDirectory(made.context, 5), old, old)
  asked.clear()
  await look()
  expect(hasLogs(5)).toBe(false)
})
