import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Context, type Sandbox, engineDirectory } from '../../daemon/context.ts'
import { findMembersAgain, memberEnded, requireMember } from '../../daemon/run/member-step.ts'
import type { OtherMember } from '../../daemon/catalogue/members.ts'
import { PeerDaemons, type OpeningPort } from '../../daemon/cluster/peer-daemons.ts'
import { peerError } from '../../daemon/cluster/peer-error.ts'
import { StintError } from '../../daemon/core/errors.ts'
import { isAlive } from '../../daemon/linux/processes.ts'
import { makeContext, type TestContext } from '../support/context.ts'
import { soon } from '../support/helpers.ts'

/** The daemon of n2 answers as it is told; the step there is a process that sleeps. */
class Peer extends PeerDaemons {
  /** What the next questions come to; after them everything is well. */
  readonly expected: Error[] = []
  readonly opened: Error[] = []
  /** Called with each question whether the member stands. */
  onOpened: () => void = () => undefined

  override member(job: number, member: number, node: string): OpeningPort {
    const answer = async (errors: Error[]): Promise<void> => {
      await sleep(50)
      const error = errors.shift()
      if (error !== undefined) throw error
    }
    return { ...super.member(job, member, node), expect: async () => answer(this.expected), opened: async () => { this.onOpened(); return answer(this.opened) } }
  }
}

let made: TestContext
let context: Context
let sandbox: Sandbox
let peer: Peer

beforeEach(() => {
  made = makeContext()
  peer = new Peer(made.context.peers, { checkpointSeconds: 5, restoreSeconds: 5 }, (node) => Promise.resolve(node))
  context = { ...made.context, cluster: peer }
  sandbox = { ...made.addSandbox(7), hosts: ['n1', 'n2'], nodes: ['n1', 'n2'], network: { vni: 8_388_609, prefix: '100.64.1' } }
  context.sandboxes.set(7, sandbox)
  mkdirSync(engineDirectory(context, 7), { recursive: true })
  mkdirSync(context.config.paths.libexec_dir)
  writeFileSync(join(context.config.paths.libexec_dir, 'stint-init'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 })
})
afterEach(async () => {
  context.sandboxes.clear()
  for (const { srunPid, srunStart } of others()) if (isAlive(srunPid, srunStart)) process.kill(srunPid, 'SIGKILL')
  await made[Symbol.asyncDispose]()
})

function others(): OtherMember[] {
  return JSON.parse(context.catalogue.members.require(sandbox.memberId).others) as OtherMember[]
}

const away = (): StintError => peerError('n2', 'sshd there reaches no stintd', { passing: true })
const died = (): StintError => peerError('n2', 'no answer: socket hang up', { sent: true })

describe('a member whose daemon begins again while it is opened', () => {
  test('is tried anew, one step at a time, and opened once', async () => {
    peer.expected.push(away())
    peer.opened.push(died(), new StintError('E_NOT_RUNNING', 'no member of job 7 is expected on n2'))
    const steps: OtherMember[] = []
    const aliveBefore: number[] = []
    peer.onOpened = () => {
      aliveBefore.push(steps.filter(({ srunPid, srunStart }) => isAlive(srunPid, srunStart)).length)
      steps.push(...others())
    }
    const [port, same] = await Promise.all([requireMember(context, sandbox, 1), requireMember(context, sandbox, 1)])
    expect(same).toBe(port)
    expect(steps.map(({ opening }) => opening)).toEqual([true, true, true])
    expect(aliveBefore).toEqual([0, 0, 0])
    expect(others()).toEqual([{ member: 1, node: 'n2', srunPid: steps[2]?.srunPid, srunStart: steps[2]?.srunStart }])
  })

  test('is not taken for one that has ended, when its daemon tells of an earlier try', async () => {
    peer.opened.push(died())
    peer.onOpened = () => { memberEnded(context, sandbox, 1) }
    await requireMember(context, sandbox, 1)
    expect(sandbox.others.has(1)).toBe(true)
    memberEnded(context, sandbox, 1)
    expect([sandbox.others.has(1), others().length]).toEqual([false, 0])
  })

  test('is not opened, and nothing of it is left, when it is refused for good', async () => {
    peer.opened.push(new StintError('E_INTERNAL', 'its network cannot be made'))
    let step: OtherMember | undefined
    peer.onOpened = () => { [step] = others() }
    await expect(requireMember(context, sandbox, 1)).rejects.toMatchObject({ code: 'E_INTERNAL' })
    expect([isAlive(step?.srunPid ?? 0, step?.srunStart ?? 0), others().length, sandbox.others.size]).toEqual([false, 0, 0])
  })

  test('is tried no more when its job has ended', async () => {
    peer.opened.push(died())
    peer.onOpened = () => { context.sandboxes.delete(7) }
    await expect(requireMember(context, sandbox, 1)).rejects.toMatchObject({ code: 'E_PEER' })
    expect(others()).toEqual([])
  })
})

test('the step of a try that the coordinator did not live to see through is ended by its next daemon', async () => {
  peer.opened.push(died())
  await expect(requireMember({ ...context, stopping: AbortSignal.abort() }, sandbox, 1)).rejects.toMatchObject({ code: 'E_STOPPING' })
  const [step] = others()
  expect([step?.opening, isAlive(step?.srunPid ?? 0, step?.srunStart ?? 0)]).toEqual([true, true])
  sandbox.others.clear()
  findMembersAgain(context, sandbox)
  expect(sandbox.others.size).toBe(0)
  const began = Date.now()
  await soon('the step has ended', () => !isAlive(step?.srunPid ?? 0, step?.srunStart ?? 0))
  expect(Date.now() - began).toBeLessThan(1000)
  // And asked for again it is opened.
  await requireMember(context, sandbox, 1)
  expect(others()[0]?.opening).toBeUndefined()
})
