import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { OtherMember } from '../catalogue/members.ts'
import type { OpeningPort } from '../cluster/peer-daemons.ts'
import { StintError, asStintError } from '../core/errors.ts'
import type { MemberPlan, MemberPort } from '../core/member.ts'
import type { DetachedProgram } from '../linux/command.ts'
import { type Context, type Sandbox, engineDirectory } from '../context.ts'
import { endLaunchesOf } from './launches.ts'
import { goBackIfLost } from './lost-member.ts'
import { assertNotStopping, pause } from '../stopping.ts'

/** From the first srun to a sandbox that stands, seconds: slurmctld may be busy, the daemon of the node be starting again. */
const openSeconds = 30
/** Between tries to open a member. */
const pauseSeconds = 0.5
/** srun ends its step at SIGTERM, and waits for that: seconds. */
const endSeconds = 10

function planOf(context: Context, sandbox: Sandbox, member: number, restoring: boolean): MemberPlan {
  const { run, hosts, nodes, network, restarts } = sandbox
  if (network === undefined) throw new StintError('E_BAD_REQUEST', `job ${run.job_id} has one member only`)
  return {
    run: run.id, job: run.job_id, uid: run.uid, gid: run.gid, user: run.user, options: run.options, member, hosts: [...hosts], nodes: [...nodes], network, createdAt: run.created_at,
    restarts, restoring, coordinator: context.node, endTime: context.catalogue.members.require(sandbox.memberId).end_time,
  }
}

/**
 * A step of the job on the member's node, as the job's user: slurmstepd there makes the cgroups, counts the time and ends it
 * with the job. srun itself is one of the job's processes, not the daemon's, and ends with the batch step.
 */
function startStep(context: Context, sandbox: Sandbox, member: number): { program: DetachedProgram; output: string } {
  const { run, nodes } = sandbox
  const { programs, paths } = context.config
  const init = join(paths.libexec_dir, 'stint-init')
  const output = join(engineDirectory(context, run.job_id), `member-${member}.out`)
  rmSync(output, { force: true }) // Of another try.
  const program = context.commands.startDetached([
    init, 'join', ...(context.kernel.cgroupPlaces(sandbox.guard) ?? []).map((place) => place.directory), '--',
    programs.setpriv, `--reuid=${run.uid}`, `--regid=${run.gid}`, '--init-groups', '--',
    programs.srun, `--jobid=${run.job_id}`, '--overlap', `--nodelist=${nodes[member] ?? ''}`, '--nodes=1', '--ntasks=1', '--mpi=none', '--export=NONE', '--chdir=/',
    '--input=none', '--output=none', '--error=none', '--job-name=stint', '--quiet', `--stint-member=${member}`, init, 'launcher',
  ], output)
  return { program, output }
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trim().split('\n').at(-1) ?? ''
}

/** The other members as they are on record for the next daemon. */
function othersOf(context: Context, sandbox: Sandbox): OtherMember[] {
  return JSON.parse(context.catalogue.members.require(sandbox.memberId).others) as OtherMember[]
}

function record(context: Context, sandbox: Sandbox, member: number, other: OtherMember | undefined): void {
  const rest = othersOf(context, sandbox).filter((o) => o.member !== member)
  context.catalogue.members.setOthers(sandbox.memberId, other === undefined ? rest : [...rest, other])
}

/** Whether a member is being opened, as far as is on record. */
function openingOf(context: Context, sandbox: Sandbox, member: number): OtherMember | undefined {
  return othersOf(context, sandbox).find((other) => other.member === member && other.opening === true)
}

async function untilEnded(context: Context, { srunPid, srunStart }: OtherMember, seconds = Infinity): Promise<void> {
  const end = Date.now() + seconds * 1000
  while (context.kernel.isAlive(srunPid, srunStart) && Date.now() < end) await pause(context, pauseSeconds)
}

/** Ends the step of a try to open a member: the next try must not meet it. */
async function endTry(context: Context, opening: OtherMember | undefined): Promise<void> {
  if (opening === undefined) return
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    using srun = context.kernel.hold(opening.srunPid, opening.srunStart)
    srun.signal(signal)
    await untilEnded(context, opening, endSeconds)
  }
}

/** srun has ended before the sandbox stood. Without a word of Slurm's the daemon there was not heard by the step, and may be in a moment. */
function stepEnded(node: string, code: number, said: string): StintError {
  return new StintError('E_SLURM', `Slurm did not start the step on ${node}: ${said || `srun ended with ${code}`}`, { details: { node, passing: said === '' } })
}

async function tryToOpen(context: Context, sandbox: Sandbox, port: OpeningPort, plan: MemberPlan, end: number): Promise<void> {
  const { member, node } = port
  await port.expect(plan)
  const { program, output } = startStep(context, sandbox, member)
  const other = { member, node, srunPid: program.pid, srunStart: context.kernel.processStat(program.pid)?.startTime ?? 0 }
  record(context, sandbox, member, { ...other, opening: true })
  context.fault('member-started')
  const waiting = new AbortController()
  try {
    const ended = program.ended.then((code) => { throw stepEnded(node, code, lastLine(output)) })
    await Promise.race([port.opened(Math.max(1, (end - Date.now()) / 1000), AbortSignal.any([waiting.signal, context.stopping])), ended])
  } finally {
    waiting.abort()
  }
  record(context, sandbox, member, other)
  watchStep(context, sandbox, member, program.ended)
}

/** Whether another try has a chance: the other daemon was away, or has begun again and knows nothing of what it was told. */
function mayPass(error: unknown): boolean {
  const { code, details } = asStintError(error)
  return ['E_NOT_RUNNING', 'E_NOT_VERIFIED'].includes(code) || details['passing'] === true || details['sent'] === true
}

async function open(context: Context, sandbox: Sandbox, member: number, restoring: boolean): Promise<MemberPort> {
  const job = sandbox.run.job_id
  const node = sandbox.nodes[member] ?? ''
  const port = context.cluster.member(job, member, node)
  const plan = planOf(context, sandbox, member, restoring)
  const end = Date.now() + openSeconds * 1000
  const left = openingOf(context, sandbox, member)
  if (left === undefined) record(context, sandbox, member, { member, node, srunPid: 0, srunStart: 0, opening: true })
  else await endTry(context, left)
  for (;;) {
    try {
      await tryToOpen(context, sandbox, port, plan, end)
      context.log.info({ job, member, node, restoring }, 'member opened')
      return port
    } catch (error) {
      // On record it is still being opened: the next daemon ends the step.
      assertNotStopping(context, error)
      await endTry(context, openingOf(context, sandbox, member))
      if (!mayPass(error) || Date.now() > end || context.sandboxes.get(job) !== sandbox) {
        record(context, sandbox, member, undefined)
        throw error
      }
      context.log.info({ err: asStintError(error), job, member, node }, 'member not opened yet, trying again')
      await pause(context, pauseSeconds)
    }
  }
}

/** A member whose step has ended has no sandbox any more. */
function watchStep(context: Context, sandbox: Sandbox, member: number, ended: Promise<unknown>): void {
  void ended.then(() => { memberEnded(context, sandbox, member) }, () => undefined)
}

/** Its step or its sandbox has ended. Heard from two sides; the second word changes nothing, nor does that of a try to open it. */
export function memberEnded(context: Context, sandbox: Sandbox, member: number): void {
  if (context.sandboxes.get(sandbox.run.job_id) !== sandbox || openingOf(context, sandbox, member) !== undefined || !sandbox.others.delete(member)) return
  record(context, sandbox, member, undefined)
  context.log.info({ job: sandbox.run.job_id, member }, 'member ended')
  // With a node that is lost nothing ends for those that wait: the job goes back to when all was there.
  void goBackIfLost(context, sandbox).then((isLost) => { if (!isLost) endLaunchesOf(context, sandbox, member) }, () => undefined)
}

/**
 * A member of this run on another node, opened now if it is not open. Several callers at once get the same one.
 * @throws StintError E_PEER, E_SLURM; the next call tries again
 */
export function requireMember(context: Context, sandbox: Sandbox, member: number, restoring = false): Promise<MemberPort> {
  const known = sandbox.others.get(member)
  if (known !== undefined) return known
  const opening = open(context, sandbox, member, restoring)
  sandbox.others.set(member, opening)
  opening.catch((error: unknown) => {
    if (sandbox.others.get(member) === opening) sandbox.others.delete(member)
    context.log.warn({ err: asStintError(error), job: sandbox.run.job_id, member }, 'member not opened')
  })
  return opening
}

/** After a restart of the daemon: the members that were open, as far as their steps still run. One that was being opened is asked for again. */
export function findMembersAgain(context: Context, sandbox: Sandbox): void {
  for (const other of othersOf(context, sandbox)) {
    const { member, node, opening } = other
    if (opening === true) {
      endTry(context, other).catch(() => undefined) // Cut short by the end of this daemon: the next one does it.
      continue
    }
    sandbox.others.set(member, Promise.resolve(context.cluster.member(sandbox.run.job_id, member, node)))
    watchStep(context, sandbox, member, untilEnded(context, other))
  }
}
