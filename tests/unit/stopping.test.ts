import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { checkpoint } from '../../daemon/run/checkpoint.ts'
import type { Context, Sandbox } from '../../daemon/context.ts'
import { goBackIfLost } from '../../daemon/run/lost-member.ts'
import { persist } from '../../daemon/slurm/retry.ts'
import { restore } from '../../daemon/run/restore.ts'
import { StintError } from '../../daemon/core/errors.ts'
import type { GuardLink } from '../../daemon/member/monitor-connection.ts'
import { makeContext, manifest, type TestContext } from '../support/context.ts'
import { soon } from '../support/helpers.ts'

/** A daemon that is stopped while something waits for slurmctld, or fails by the stop: the job is left as it stands. */

let made: TestContext
let context: Context
let stopping: AbortController
let sent: string[]
let sandbox: Sandbox

const absent = 'scontrol: slurm_load_jobs error: Unable to contact slurm controller (connect failure)'

beforeEach(() => {
  made = makeContext()
  stopping = new AbortController()
  context = { ...made.context, stopping: stopping.signal, sandboxes: new Map() }
  writeFileSync(join(made.folder, 'scontrol'), `#!/bin/sh\necho "${absent}" >&2; exit 1\n`, { mode: 0o755 })
  sent = []
  sandbox = made.addSandbox(5)
  sandbox.link = { send: (verb: string) => { sent.push(verb) } } as unknown as GuardLink
  context.sandboxes.set(5, sandbox)
})
afterEach(async () => { await made[Symbol.asyncDispose]() })

const state = (): string => context.catalogue.members.require(sandbox.memberId).state
const triesLogged = (): boolean => made.logged.some(({ msg }) => String(msg).includes('was not accepted'))

async function seal(): Promise<void> {
  const described = { ...manifest, run: 'run-5', restarts: 0, createdAt: Date.now() }
  const key = { ...described, coordinator: 'n1' }
  await using draft = context.store.begin(key, true)
  draft.seal({ ...described, files: await draft.finish() })
  context.store.publish(key)
}

test('what must reach slurmctld ends as E_STOPPING, no fault of the job', async () => {
  const waiting = persist(context, 5, 'show job', async () => context.scontrol.showJob(5))
  await soon('it has been tried', triesLogged)
  stopping.abort()
  await expect(waiting).rejects.toMatchObject({ code: 'E_STOPPING' })
})

test('a failed restore that waits for slurmctld leaves its sandbox, its row and its job alone', async () => {
  await seal()
  const restoring = restore(context, sandbox)
  await soon('it waits', triesLogged)
  const before = state()
  stopping.abort()
  await expect(restoring).rejects.toMatchObject({ code: 'E_STOPPING' })
  expect([state(), context.sandboxes.get(5) === sandbox, sent.includes('release'), context.store.list(5).length]).toEqual([before, true, false, 1])
})

test('a restore that fails by the stop itself is no failed attempt', async () => {
  await seal()
  stopping.abort()
  await expect(restore(context, sandbox)).rejects.toMatchObject({ code: 'E_STOPPING' })
  expect(context.catalogue.events.ofRun('run-5').map(({ kind }) => kind)).not.toContain('restore-failed')
})

test('a checkpoint that fails by the stop is not recorded as a failure of the job', async () => {
  stopping.abort()
  await expect(checkpoint(context, sandbox, { trigger: 'request', keepRunning: true })).rejects.toMatchObject({ code: 'E_STOPPING' })
  expect(context.catalogue.runs.get('run-5')?.error_code).toBeNull()
})

test('a job that has lost a node keeps its sandbox until Slurm has taken it back', async () => {
  await seal()
  const several = { ...sandbox, nodes: ['n1', 'n9'], hosts: ['n1', 'n9'] }
  context.sandboxes.set(5, several)
  const lost: Context = { ...context, peers: { hello: async () => Promise.reject(new StintError('E_PEER', 'gone')) } as unknown as Context['peers'] }
  expect(await goBackIfLost(lost, several)).toBe(true)
  await soon('it waits', triesLogged)
  stopping.abort()
  await sleep(100)
  expect(sent).toEqual(['say'])
})
