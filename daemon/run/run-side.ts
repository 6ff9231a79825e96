import type { Context } from '../context.ts'
import type { RunSide } from '../member/open.ts'
import { handleMessage } from './monitor-messages.ts'
import { makePostOffice } from './relay.ts'

/** What the members on this node get to ask their runs by. */
export function runSide(context: Context): RunSide {
  return {
    answer: (sandbox, message) => { handleMessage(context, sandbox, message) },
    relay: (sandbox) => makePostOffice(context, sandbox),
  }
}
