import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { NewRun, Run } from '../catalogue/runs.ts'
import { memberAddress, type RunNetwork } from '../core/addresses.ts'
import { StintError } from '../core/errors.ts'
import type { RunOptions } from '../core/options.ts'
import type { Message } from '../core/wire.ts'
import { mpiEnvironment } from '../../plugins/mpi/environment.ts'
import type { GuardLink } from './monitor-connection.ts'
import { makePayloadCgroup } from '../linux/cgroups.ts'
import { HeldProcess, bootId } from '../linux/held-process.ts'
import { verifyPid1, type Claim } from './claim.ts'
import { watchGuard } from './close.ts'
import { type Context, type Sandbox, engineDirectory, freshSandbox, relayPath, sandboxDirectory } from '../context.ts'
import type { PostOffice } from './relay.ts'
import { openUp } from './reopen.ts'

const SIGUSR1 = 10
/** How long the plugin may take from the answer to its mounts. */
const mountSeconds = 10

/** What a sandbox is to be: the claim of its task, and what is known of the run. */
export interface Blueprint {
  readonly claim: Claim
  readonly run: NewRun
  readonly options: RunOptions
  readonly restoring: boolean
  readonly member: number
  readonly hosts: readonly string[]
  readonly nodes: readonly string[]
  readonly network: RunNetwork | undefined
  readonly coordinator: string | undefined
  readonly restarts: number
  /** Milliseconds since 1970; null for a job without limit. */
  readonly end: number | null
}

/** The node's /etc/hosts with the members' own names on their virtual addresses. */
function writeHosts(context: Context, { run, hosts, network }: Blueprint): string {
  const directory = sandboxDirectory(context, run.job_id)
  const members = network === undefined ? [`${run.address} ${run.hostname}`] : hosts.map((host, member) => `${memberAddress(network.prefix, member)} ${host}`)
  const others = readFileSync('/etc/hosts', 'utf8').split('\n').filter((line) => !line.split(/\s+/).slice(1).some((name) => hosts.includes(name)))
  const path = `${directory}/hosts`
  writeFileSync(path, [...members, ...others].join('\n'), { mode: 0o644 })
  return path
}

function answer(context: Context, link: GuardLink, plan: Blueprint, cgroup: string): void {
  const { claim, run, options, restoring, network } = plan
  const several = network !== undefined
  const env = { ...mpiEnvironment({ several, agent: `${context.config.paths.libexec_dir}/stint-agent` }), ...(several ? { STINT_POST: relayPath(context, run.job_id) } : {}) }
  link.send(restoring ? 'restore' : 'start', {
    hostname: plan.hosts[plan.member],
    hosts: options.net === 'private' ? writeHosts(context, plan) : undefined,
    net: options.net,
    doorbell: options.signal === 'doorbell' ? SIGUSR1 : undefined,
    cgroup,
    attached: 1,
    nodes: plan.nodes.length,
    keep: claim.keep,
    env: restoring || options.net === 'host' ? undefined : Object.entries(env).map(([key, value]) => `${key}=${value}`),
  })
}

function register(context: Context, plan: Blueprint, cgroup: string): { run: Run; memberId: number } {
  const { catalogue } = context
  return catalogue.transaction(() => {
    catalogue.runs.upsert(plan.run)
    const member = catalogue.members.insert({
      run_id: plan.run.id, member: plan.member, restarts: plan.restarts, node: context.node, state: 'opening', guard_pid: plan.claim.task.pid, guard_start: plan.claim.startTime, boot: bootId(),
      payload_cgroup: cgroup, end_time: plan.end, restore_from: null, opened_at: Date.now(), nodes: JSON.stringify(plan.nodes), coordinator: plan.coordinator ?? null,
    })
    catalogue.events.add(plan.run.id, Date.now(), 'opened', { node: context.node, restarts: plan.restarts, restoring: plan.restoring, member: plan.member })
    const run = catalogue.runs.get(plan.run.id)
    if (run === undefined) throw new StintError('E_INTERNAL', 'the run was not written')
    return { run, memberId: member.id }
  })
}

async function connect(context: Context, plan: Blueprint, sandbox: Promise<HeldProcess>): Promise<void> {
  const { network, member, nodes, options, run } = plan
  if (options.net === 'host') return
  if (network === undefined) {
    await context.network.connect(sandbox, run.address)
    return
  }
  const addresses = await Promise.all(nodes.map((node) => context.cluster.addressOf(node)))
  await context.network.connectMember(await sandbox, {
    network, member, members: addresses.map((nodeAddress, at) => ({ member: at, nodeAddress })),
  })
}

/** What a member asks of its run: handed in, for a member knows nothing above it. */
export interface RunSide {
  /** A line from the monitor. */
  readonly answer: (sandbox: Sandbox, message: Message) => void
  /** Where agents and launchers of a run over several nodes ask; shut as yet. */
  readonly relay: (sandbox: Sandbox) => PostOffice
}

/** The other side of the plugin's connection, from now on. */
export function attach(context: Context, sandbox: Sandbox, link: GuardLink, { answer: answerLine }: RunSide): void {
  sandbox.link = link
  link.onMessage = (next) => { answerLine(sandbox, next) }
  link.onClose = () => { watchGuard(context, sandbox) }
}

/**
 * Answers the plugin, builds the network, and says go: the sandbox stands.
 * @param runSide what answers for its run
 * @param registered called with the member's row as soon as there is one
 * @throws StintError with the plugin still waiting: the caller refuses, and abandons the member
 */
export async function buildSandbox(context: Context, link: GuardLink, plan: Blueprint, runSide: RunSide, registered: (memberId: number) => void): Promise<Sandbox> {
  const cgroup = makePayloadCgroup(plan.claim.payloadPlace)
  mkdirSync(engineDirectory(context, plan.claim.jobId), { recursive: true, mode: 0o700 })
  rmSync(sandboxDirectory(context, plan.claim.jobId), { recursive: true, force: true })
  mkdirSync(sandboxDirectory(context, plan.claim.jobId), { recursive: true, mode: 0o755 })
  const { run, memberId } = register(context, plan, cgroup)
  registered(memberId)
  const sandboxLine = link.expect('sandbox', mountSeconds)
  answer(context, link, plan, cgroup)
  const mounted = link.expect('mounted', mountSeconds)
  mounted.catch(() => undefined) // Awaited below, after the network.
  const made = sandboxLine.then((line) => {
    const pid1 = verifyPid1(plan.claim, line)
    context.catalogue.members.setPid1(memberId, pid1.pid, pid1.stat()?.startTime ?? 0)
    return pid1
  })
  const connected = connect(context, plan, made)
  connected.catch(() => undefined) // Awaited below.
  const pid1 = await made
  try {
    await connected
    await mounted
  } catch (error) {
    await context.network.disconnect(pid1).catch((cause: unknown) => { context.log.warn({ err: cause, job: plan.claim.jobId }, 'network devices go with their namespace') })
    pid1.release()
    throw error
  }
  const { options, restarts, member, hosts, nodes, network, coordinator } = plan
  const sandbox: Sandbox = { ...freshSandbox(), memberId, run, options, restarts, member, hosts, nodes, network, coordinator, pid1, guard: HeldProcess.open(plan.claim.task.pid, plan.claim.startTime), link }
  if (network !== undefined) sandbox.post = runSide.relay(sandbox)
  if (!plan.restoring) await openUp(context, sandbox)
  context.sandboxes.set(plan.claim.jobId, sandbox)
  context.catalogue.members.move(memberId, plan.restoring ? 'restoring' : 'running', Date.now())
  attach(context, sandbox, link, runSide)
  link.send('go')
  context.fault('opened')
  context.log.info({ job: plan.claim.jobId, member, restoring: plan.restoring, node: context.node }, 'sandbox opened')
  return sandbox
}
