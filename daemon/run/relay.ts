import { StintError } from '../core/errors.ts'
import type { Peer } from '../member/relay.ts'
import type { PostOffice } from '../member/relay.ts'
import { answerLetter, relayLetter } from './launch-requests.ts'
import { type Context, type Sandbox, relayPath } from '../context.ts'

/** A caller's PID as its sandbox counts. @throws StintError E_NOT_VERIFIED when it is no process of the job in this sandbox */
function sandboxPid(sandbox: Sandbox, { uid, held }: Peer): number {
  const own = sandbox.pid1.namespace('pid')
  const pid = held.innerPid ?? 0
  if (uid !== sandbox.run.uid || held.uid !== uid || own === undefined || held.namespace('pid') !== own || !(pid > 1)) {
    throw new StintError('E_NOT_VERIFIED', `process ${held.pid} is not one of job ${sandbox.run.job_id}`)
  }
  return pid
}

/** The post office of a member of a run over several nodes; shut as yet. */
export function makePostOffice(context: Context, sandbox: Sandbox): PostOffice {
  return context.postOffice(relayPath(context, sandbox.run.job_id), context.log, (peer) => sandboxPid(sandbox, peer), async (pid, letter) =>
    sandbox.coordinator === undefined ? answerLetter(context, sandbox, { member: sandbox.member, pid }, letter) : relayLetter(context, sandbox, pid, letter), context.budgets)
}
