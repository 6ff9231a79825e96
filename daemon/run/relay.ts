import { namespaceOf, processStatus } from '../linux/processes.ts'
import { StintError } from '../core/errors.ts'
import type { PostOffice } from '../member/relay.ts'
import { answerLetter, relayLetter } from './launch-requests.ts'
import { type Context, type Sandbox, relayPath } from '../context.ts'

/** A caller's PID as its sandbox counts. @throws StintError E_NOT_VERIFIED when it is no process of the job in this sandbox */
function sandboxPid(sandbox: Sandbox, nodePid: number): number {
  const status = processStatus(nodePid)
  const pid = Number(status?.get('NSpid')?.split(/\s+/).at(-1))
  const uid = Number(status?.get('Uid')?.split(/\s+/)[0])
  if (uid !== sandbox.run.uid || namespaceOf(nodePid, 'pid') !== namespaceOf(sandbox.pid1, 'pid') || !(pid > 1)) {
    throw new StintError('E_NOT_VERIFIED', `process ${nodePid} is not one of job ${sandbox.run.job_id}`)
  }
  return pid
}

/** The post office of a member of a run over several nodes; shut as yet. */
export function makePostOffice(context: Context, sandbox: Sandbox): PostOffice {
  return context.postOffice(relayPath(context, sandbox.run.job_id), context.log, (nodePid) => sandboxPid(sandbox, nodePid), async (pid, letter) =>
    sandbox.coordinator === undefined ? answerLetter(context, sandbox, { member: sandbox.member, pid }, letter) : relayLetter(context, sandbox, pid, letter), context.budgets)
}
