import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OtherMember } from '../catalogue/members.ts'
import { StintError, asStintError } from '../core/errors.ts'
import type { MemberPlan, MemberPort } from '../core/member.ts'
import { cgroupPlaces } from '../linux/cgroups.ts'
import type { DetachedProgram } from '../linux/command.ts'
import { isAlive, processStat } from '../linux/processes.ts'
import { type Context, type Sandbox, engineDirectory } from './context.ts'
import { endLaunchesOf } from './launches.ts'
import { goBackIfLost } from './lost-member.ts'

/** From the srun to a sandbox that stands, seconds: slurmctld may be busy. */
const openSeconds = 30

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
  const { guard_pid: guard } = context.catalogue.members.require(sandbox.memberId)
  const init = join(paths.libexec_dir, 'stint-init')
  const output = join(engineDirectory(context, run.job_id), `member-${member}.out`)
  const program = context.commands.startDetached([
    init, 'join', ...(cgroupPlaces(guard) ?? []).map((place) => place.directory), '--',
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
function setOthers(context: Context, sandbox: Sandbox, change: (others: OtherMember[]) => OtherMember[]): void {
  const before = JSON.parse(context.catalogue.members.require(sandbox.memberId).others) as OtherMember[]
  context.catalogue.members.setOthers(sandbox.memberId, change(before))
}

async function open(context: Context, sandbox: Sandbox, member: number, restoring: boolean): Promise<MemberPort> {
  const node = sandbox.nodes[member] ?? ''
  const port = context.cluster.member(sandbox.run.job_id, member, node)
  await port.expect(planOf(context, sandbox, member, restoring))
  const { program, output } = startStep(context, sandbox, member)
  const stat = processStat(program.pid)
  const waiting = new AbortController()
  try {
    const ended = program.ended.then((code) => { throw new StintError('E_SLURM', `Slurm did not start the step on ${node}: ${lastLine(output) || `srun ended with ${code}`}`) })
    await Promise.race([port.opened(openSeconds, AbortSignal.any([waiting.signal, context.stopping])), ended])
  } finally {
    waiting.abort()
  }
  setOthers(context, sandbox, (others) => [...others.filter((o) => o.member !== member), { member, node, srunPid: program.pid, srunStart: stat?.startTime ?? 0 }])
  watchStep(context, sandbox, member, program.ended)
  context.log.info({ job: sandbox.run.job_id, member, node, restoring }, 'member opened')
  return port
}

/** A member whose step has ended has no sandbox any more. */
function watchStep(context: Context, sandbox: Sandbox, member: number, ended: Promise<unknown>): void {
  void ended.then(() => { memberEnded(context, sandbox, member) }, () => undefined)
}

/** Its step or its sandbox has ended. Heard from two sides; the second word changes nothing. */
export function memberEnded(context: Context, sandbox: Sandbox, member: number): void {
  if (context.sandboxes.get(sandbox.run.job_id) !== sandbox || !sandbox.others.delete(member)) return
  setOthers(context, sandbox, (others) => others.filter((o) => o.member !== member))
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

/** After a restart of the daemon: the members that were open, as far as their steps still run. */
export function findMembersAgain(context: Context, sandbox: Sandbox): void {
  for (const { member, node, srunPid, srunStart } of JSON.parse(context.catalogue.members.require(sandbox.memberId).others) as OtherMember[]) {
    sandbox.others.set(member, Promise.resolve(context.cluster.member(sandbox.run.job_id, member, node)))
    const gone = async (): Promise<void> => {
      while (isAlive(srunPid, srunStart)) await sleep(500, undefined, { signal: context.stopping, ref: false })
    }
    watchStep(context, sandbox, member, gone())
  }
}
