import { expect, test } from '@jest/globals'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { serveSandboxes } from '../../daemon/node/plugin-socket.ts'
import { makeContext } from '../support/context.ts'

test('the end of the daemon does not wait for guards: they live as long as their jobs', async () => {
  await using made = makeContext()
  const server = await serveSandboxes(made.context)
  const guard = connect(made.context.config.paths.sandbox_socket)
  await once(guard, 'connect')
  const cut = once(guard, 'close')
  // The server has the connection now; a guard says nothing unless something happens.
  await sleep(50)
  const ended = server[Symbol.asyncDispose]().then(() => 'ended')
  expect(await Promise.race([ended, sleep(2000, 'waits', { ref: false })])).toBe('ended')
  guard.resume()
  await cut
})
