import { expect, test } from '@jest/globals'
import { answerHook } from '../../daemon/node/hooks.ts'
import { closeSandbox } from '../../daemon/member/close.ts'
import { decodeLine } from '../../daemon/core/wire.ts'
import { makeContext } from '../support/context.ts'

test('a sandbox that is being closed when Epilog comes is closed once, with the status its guard told', async () => {
  await using world = makeContext()
  const { context } = world
  const sandbox = world.addSandbox(7)
  context.catalogue.members.setPid1(sandbox.memberId, process.pid, 1)
  const epilog = decodeLine('epilog job=7')
  if (epilog === undefined) throw new Error('no message')
  await Promise.all([closeSandbox(context, sandbox, 768), answerHook(context, epilog)])
  const ended = context.catalogue.events.ofRun(sandbox.run.id).filter((event) => event.kind === 'ended')
  expect(ended.map((event) => event.detail)).toEqual([{ waitStatus: 768, imagesKept: false }])
})
