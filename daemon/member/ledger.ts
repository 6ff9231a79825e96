import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asStintError } from '../core/errors.ts'
import { absoluteTimerObstacle, anyAbsoluteTimer, hasRealtimeTimers } from '../core/absolute-timers.ts'
import { hasKeys, keysOf } from '../core/keys.ts'
import { answersOf, parseCpuList, parseLedger, putInput, readFailures, readRecord, recordInput, speculationObstacles, threadObstacles } from '../core/ledger.ts'
import { insideTree, type Obstacle } from '../core/obstacles.ts'
import { sandboxProc } from '../linux/payload.ts'
import { listPids, processStat, processStatus, unlessGone } from '../linux/processes.ts'
import { asUser, inMounts } from './archive.ts'
import { type Context, type LookContext, type Looked, type Sandbox, rootPid } from '../context.ts'

/** In an image: what `stint-init ledger` read at the freeze (core/ledger.ts). */
const recordName = 'ledger.json'
/** What is said aloud at most. */
const noticesSaid = 10
/** Seconds the helper may take while the payload is frozen. */
const helperSeconds = 10
/** Of its answers: 250 for each of a million descriptors. */
const helperBytes = 256 * 2 ** 20

/**
 * The hands, as root in the sandbox's PID, mount and network namespaces: processes and devices have the names there that the
 * payload knows. Not in the job's cgroups: a frozen job may be at its memory limit.
 * @param outputFile takes the answers, which are then empty here
 */
export async function ledgerHelper(context: LookContext, sandbox: Looked, mode: 'look' | 'record' | 'identities' | 'put', input: string, outputFile?: string): Promise<string> {
  const { stdout } = await context.commands.run(
    [context.config.programs.nsenter, ...sandbox.pid1.enter('pid', 'mnt', 'net?'), '--wd=/', '--', join(context.config.paths.libexec_dir, 'stint-init'), 'ledger', mode],
    { input, timeoutSeconds: helperSeconds, maxOutputBytes: helperBytes, ...(outputFile === undefined ? {} : { outputFile }) },
  )
  return stdout
}

/** CPUs that Slurm gave the step: those of the guard, which only root could bind anew. */
function stepCpus({ guard }: Sandbox): number[] {
  const status = unlessGone(() => readFileSync(`${guard.proc}/status`, 'utf8')) ?? ''
  return parseCpuList(/^Cpus_allowed_list:\s+(\S+)/m.exec(status)?.[1] ?? '')
}

/** The payload's living processes, as the sandbox counts. */
export function payloadPids(sandbox: Sandbox): number[] {
  const proc = sandboxProc(sandbox.pid1)
  const stats = (unlessGone(() => listPids(proc)) ?? []).flatMap((pid) => processStat(pid, proc) ?? [])
  return insideTree(stats, rootPid).filter(({ state }) => state !== 'Z' && state !== 'X').map(({ pid }) => pid)
}

/** Says what is not as it was, once each in a run: on the job's standard error, and in `stint status`. */
export function tellNotices(context: Context, sandbox: Sandbox, notices: readonly string[]): void {
  const known = new Set(context.catalogue.events.ofRun(sandbox.run.id).filter(({ kind }) => kind === 'notice').map(({ detail }) => detail['text']))
  for (const text of notices.filter((notice) => !known.has(notice)).slice(0, noticesSaid)) {
    context.catalogue.events.add(sandbox.run.id, Date.now(), 'notice', { text })
    sandbox.link?.send('say', { text })
  }
}

/**
 * The payload is frozen. A fault here costs what could be put back, never the checkpoint.
 * @param pids the payload's living processes, as the sandbox counts
 */
export async function recordLedger(context: Context, sandbox: Sandbox, directory: string, pids: readonly number[]): Promise<void> {
  try {
    const ledger = readRecord(await ledgerHelper(context, sandbox, 'record', recordInput(pids)), stepCpus(sandbox))
    writeFileSync(join(directory, recordName), JSON.stringify(ledger), { mode: 0o600 })
  } catch (cause) {
    const error = asStintError(cause)
    context.log.error({ err: error, job: sandbox.run.job_id }, 'the ledger was not recorded')
    tellNotices(context, sandbox, [`CPU affinity, options of sockets and timers could not be recorded; after a move from this checkpoint they have their defaults: ${error.message}`])
  }
}

/** Everything is restored and nothing runs. What cannot be put back is told; the restore goes on. */
export async function putBackLedger(context: Context, sandbox: Sandbox, directory: string): Promise<void> {
  const path = join(directory, recordName)
  if (!existsSync(path)) return // Of a Stint before ledgers, or not recorded, which was told then.
  try {
    const ledger = parseLedger(readFileSync(path, 'utf8'))
    const { input, notices } = putInput(ledger, stepCpus(sandbox))
    const failures = readFailures(await ledgerHelper(context, sandbox, 'put', input), ledger)
    tellNotices(context, sandbox, [...notices, ...failures].map((text) => `not as it was before the move: ${text}`))
  } catch (cause) {
    const error = asStintError(cause)
    context.log.error({ err: error, job: sandbox.run.job_id }, 'the ledger was not put back')
    tellNotices(context, sandbox, [`CPU affinity, options of sockets and timers could not be put back and have their defaults: ${error.message}`])
  }
}

type Process = { readonly pid: number; readonly comm: string; readonly state: string }

/** Threads with a directory or descriptors of their own. Asks the kernel only of processes with threads. */
async function ownOfThreads(context: LookContext, sandbox: Looked, processes: readonly Process[]): Promise<Obstacle[]> {
  const proc = sandboxProc(sandbox.pid1)
  const threaded = processes.filter(({ pid }) => (unlessGone(() => readdirSync(`${proc}/${pid}/task`)) ?? []).length > 1)
  if (threaded.length === 0) return []
  const answers = await ledgerHelper(context, sandbox, 'look', threaded.map(({ pid }) => `process ${pid}\n`).join(''))
  return threadObstacles(answers, new Map(threaded.map(({ pid, comm }) => [pid, comm])))
}

/** POSIX timers that may be set to a time of day. The kernel does not say whose they are: with none on this node there is none in the job. */
function absoluteTimers({ pid1 }: Looked, processes: readonly Process[]): Obstacle[] {
  const proc = sandboxProc(pid1)
  const [first] = processes.filter(({ pid }) => hasRealtimeTimers(unlessGone(() => readFileSync(`${proc}/${pid}/timers`, 'utf8')) ?? ''))
  if (first === undefined || !anyAbsoluteTimer(unlessGone(() => readFileSync('/proc/timer_list', 'latin1')) ?? '')) return []
  return [absoluteTimerObstacle(first)]
}

function speculation({ pid1 }: Looked, processes: readonly Process[]): Obstacle[] {
  const proc = sandboxProc(pid1)
  const root = processStatus(rootPid, proc)
  return root === undefined ? [] : processes.flatMap((process) => speculationObstacles(process, processStatus(process.pid, proc) ?? new Map<string, string>(), root))
}

/** What CRIU would lose in silence and nobody can put back. */
export async function ledgerObstacles(context: LookContext, sandbox: Looked, processes: readonly Process[]): Promise<Obstacle[]> {
  const living = processes.filter(({ state }) => state !== 'Z')
  const threads = await ownOfThreads(context, sandbox, living).catch((error: unknown): Obstacle[] => {
    context.log.error({ err: asStintError(error), job: sandbox.run.job_id }, 'threads were not looked at')
    return [] // @NOTE A fault of ours must not keep a job from being saved at its walltime.
  })
  return [...absoluteTimers(sandbox, living), ...speculation(sandbox, living), ...threads]
}

/**
 * Tells of keys (Kerberos, AFS) that stay behind: no one may read them from outside. /proc says whose a key is, not which process has it
 * in its keyrings, so it is said of all the user's keys on this node.
 */
export async function tellKeys(context: Context, sandbox: Sandbox): Promise<void> {
  await lookForKeys(context, sandbox).catch((error: unknown) => { context.log.error({ err: asStintError(error), job: sandbox.run.job_id }, 'keys were not looked for') })
}

async function lookForKeys(context: Context, sandbox: Sandbox): Promise<void> {
  const { uid } = sandbox.run
  if (!hasKeys(unlessGone(() => readFileSync('/proc/key-users', 'utf8')) ?? '', uid)) return
  const { stdout } = await context.commands.run(
    [...inMounts(context, sandbox), ...asUser(context, sandbox), join(context.config.paths.libexec_dir, 'stint-init'), 'ledger', 'keys'], { timeoutSeconds: helperSeconds },
  )
  const keys = keysOf(answersOf(stdout).join('\n'), uid)
  tellNotices(context, sandbox, keys.map((key) => `the key "${key}" is in a keyring of this node\'s kernel and stays here when the job moves; if the job needs it, get it again then (kinit, aklog)`))
}
