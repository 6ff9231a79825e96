import { readFileSync } from 'node:fs'
import type { ProcessPlace } from './held-process.ts'
import { listPids, processStat, unlessGone } from './processes.ts'
import { sandboxProc } from './payload.ts'

/** PID1_LANDLOCK_NAME in plugins/spank/common/internal.h: what a sandbox's PID 1 is called once a process in it asked to be restricted. */
const marked = 'stint-landlock'

/** Whether a thread of the process has no_new_privs, without which no user's process can restrict itself, and which children inherit. */
function hasNoNewPrivs(pid: number, proc: string): boolean {
  return (unlessGone(() => listPids(`${proc}/${pid}/task`)) ?? []).some((thread) =>
    /^NoNewPrivs:\s+1$/m.test(unlessGone(() => readFileSync(`${proc}/${pid}/task/${thread}/status`, 'utf8')) ?? ''))
}

/**
 * Processes of a sandbox in which Landlock rules may be in force. The kernel shows nobody a process's rules, so in a sandbox where some
 * process has restricted itself it is every one that has no_new_privs: that one, what it started, and perhaps one too many.
 */
export function landlocked(pid1: ProcessPlace): { pid: number; comm: string }[] {
  if (unlessGone(() => readFileSync(`${pid1.proc}/comm`, 'utf8'))?.trim() !== marked) return []
  const proc = sandboxProc(pid1)
  return (unlessGone(() => listPids(proc)) ?? []).filter((pid) => pid !== 1).flatMap((pid) => {
    const stat = unlessGone(() => processStat(pid, proc))
    return stat === undefined || stat.state === 'Z' || !hasNoNewPrivs(pid, proc) ? [] : [{ pid, comm: stat.comm }]
  })
}
