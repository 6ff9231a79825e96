import type { MemberPort } from '../core/member.ts'
import type { Context, Sandbox } from '../context.ts'
import { abort, commit, dump, publish, quiesce, record, seal } from './dump.ts'
import { observe } from './preflight.ts'
import { rehearse } from './rehearse.ts'
import { clear, restoreMember, resume } from './restore.ts'

/** This node's own member of a run, for its coordinator: here by call, elsewhere through http/. */
export function localMember(context: Context, sandbox: Sandbox): MemberPort {
  return {
    member: sandbox.member,
    node: context.node,
    observe: () => observe(context, sandbox),
    quiesce: (order) => quiesce(context, sandbox, order),
    dump: (order) => dump(context, sandbox, order),
    record: (order) => record(context, sandbox, order),
    rehearse: (order, seconds) => rehearse(context, sandbox, order, seconds),
    seal: (order, cut) => seal(context, sandbox, order, cut),
    publish: (order) => publish(context, sandbox, order),
    commit: (order) => commit(context, sandbox, order),
    abort: (order, reason) => abort(context, sandbox, order, reason),
    restore: (checkpoint) => restoreMember(context, sandbox, checkpoint),
    resume: () => resume(context, sandbox),
    clear: () => clear(context, sandbox),
    wake: async (pid) => { sandbox.link?.send('wake', { pid }) },
    close: async () => { sandbox.link?.send('release', { status: 0 }) },
  }
}
