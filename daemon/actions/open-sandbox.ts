import { randomUUID } from 'node:crypto'
import { constants, mkdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { userName } from '../linux/users.ts'
import type { NewRun, Run } from '../catalogue/runs.ts'
import { allotBlock, memberAddress } from '../core/addresses.ts'
import { carriedTrees } from '../core/file-places.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { parseOptions, type RunOptions } from '../core/options.ts'
import { numberWord, word, type Message } from '../core/wire.ts'
import { cgroupPlaces, isInStep, makePayloadCgroup, trackingPlace } from '../linux/cgroups.ts'
import { isJobsOwn, mountsOf } from '../linux/mounts.ts'
import { namespaceOf, processStat } from '../linux/processes.ts'
import { mpichEnvironment, openMpiEnvironment } from '../../plugins/mpi/environment.ts'
import type { GuardLink } from '../sandbox/link.ts'
import { abandonMember, watchGuard } from './close-sandbox.ts'
import { type Context, type Sandbox, engineDirectory, sandboxDirectory } from './context.ts'
import { armDeadline } from './deadline.ts'
import { parkJob } from './park.ts'
import { removeImages } from './prune.ts'
import { restorableImages, restore } from './restore.ts'
import { handleMessage } from './answer-guard.ts'
import { isMarkedSaved } from './mark-saved.ts'

const SIGUSR1 = 10
/** How long the plugin may take from the answer to its mounts. */
const mountSeconds = 10

/** What the task process claims, once the kernel and slurmctld agree. */
interface Claim {
  readonly jobId: number
  readonly uid: number
  readonly gid: number
  readonly pid: number
  readonly startTime: number
  readonly restarts: number
  /** Slurm remembers a checkpoint of it. */
  readonly saved: boolean
  readonly requeue: boolean
  /** Milliseconds since 1970; null for a job without limit. */
  readonly end: number | null
  readonly optionsText: string
  readonly options: RunOptions
  /** Where slurmd put the job script on this node; empty when the plugin did not say. */
  readonly script: string
  /** Of the trees that travel with every image, those that Slurm has made for this job already. */
  readonly keep: readonly string[]
  /** Output files that a requeue will truncate: not opened for appending. */
  readonly truncated: readonly string[]
  readonly payloadPlace: ReturnType<typeof trackingPlace>
}

/** Standard output and error as slurmstepd opened them: regular files without O_APPEND. */
function truncatedOutputs(pid: number): string[] {
  const paths = [1, 2].flatMap((fd) => {
    const flags = parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0', 8)
    const isFile = statSync(`/proc/${pid}/fd/${fd}`).isFile()
    return isFile && (flags & constants.O_APPEND) === 0 ? [readlinkSync(`/proc/${pid}/fd/${fd}`)] : []
  })
  return [...new Set(paths)]
}

/** What the sandbox need not make: the task is in Slurm's own mount namespace of the job by now, where there is one. */
function jobsOwnTrees(pid: number, jobId: number): string[] {
  const [ofTask, ofNode] = [mountsOf(pid), mountsOf(process.pid)]
  return carriedTrees.filter((tree) => isJobsOwn(tree, jobId, ofTask, ofNode))
}

/** @throws StintError E_NOT_VERIFIED, E_BAD_REQUEST, E_BAD_OPTION, E_SLURM */
async function verifyClaim(context: Context, link: GuardLink, message: Message): Promise<Claim> {
  const need = (key: string): number => {
    const value = numberWord(message, key)
    if (value === undefined) throw new StintError('E_BAD_REQUEST', `"open" lacks ${key}`)
    return value
  }
  const [jobId, pid] = [need('job'), need('pid')]
  const stat = processStat(pid)
  const places = cgroupPlaces(pid)
  if (link.peer.uid !== 0 || link.peer.pid !== pid || stat === undefined || places === undefined || !isInStep(places, jobId, 'batch')) {
    throw new StintError('E_NOT_VERIFIED', `process ${pid} is not the batch task of job ${jobId}`)
  }
  const job = await context.scontrol.showJob(jobId)
  if (job.uid !== need('uid')) throw new StintError('E_NOT_VERIFIED', `job ${jobId} belongs to uid ${job.uid}`)
  const optionsText = word(message, 'options') ?? ''
  return {
    jobId, pid, uid: job.uid, gid: need('gid'), startTime: stat.startTime, restarts: job.restarts, saved: isMarkedSaved(job), requeue: job.requeue,
    end: job.endTime === undefined ? null : job.endTime * 1000, optionsText, options: parseOptions(optionsText), script: word(message, 'script') ?? '', truncated: truncatedOutputs(pid), keep: jobsOwnTrees(pid, jobId), payloadPlace: trackingPlace(places),
  }
}

/**
 * The run this stint belongs to, and whether it continues from an image.
 * @throws StintError E_NO_CHECKPOINT when there is none although the job was saved: started afresh it would redo, and
 *   overwrite, what it has done
 */
function findRun(context: Context, claim: Claim): { run: NewRun; restoring: boolean } {
  const image = claim.restarts > 0 ? restorableImages(context, claim.jobId, claim.uid, claim.restarts)[0] : undefined
  if (image !== undefined) {
    const { manifest } = image
    return {
      restoring: true,
      run: {
        id: manifest.run, job_id: manifest.job, uid: manifest.uid, gid: manifest.gid, user: manifest.user, options: manifest.options, hostname: manifest.hostname,
        address: manifest.address, script: manifest.script, outputs: JSON.stringify(claim.truncated), history: JSON.stringify(manifest.history), created_at: manifest.history[0]?.startedAt ?? manifest.createdAt,
      },
    }
  }
  if (claim.restarts > 0 && claim.saved) throw new StintError('E_NO_CHECKPOINT', `the job was saved, but ${context.store.name} on ${context.node} has no checkpoint of it`)
  // An earlier job had this id: slurmctld says that this one starts for the first time.
  if (claim.restarts === 0) for (const stale of new Set(context.store.list(claim.jobId).map((i) => i.manifest.run))) removeImages(context, claim.jobId, stale)
  const taken = new Set([...context.sandboxes.values()].map((s) => s.run.address))
  return {
    restoring: false,
    run: {
      id: randomUUID(), job_id: claim.jobId, uid: claim.uid, gid: claim.gid, user: userName(claim.uid), options: claim.optionsText, hostname: context.node,
      address: memberAddress(allotBlock(context.config.network.pool, claim.jobId, taken), 0), script: claim.script, outputs: JSON.stringify(claim.truncated), history: '[]', created_at: Date.now(),
    },
  }
}

/** The node's /etc/hosts with this member's own name on its virtual address. */
function writeHosts(context: Context, run: NewRun): string {
  const directory = sandboxDirectory(context, run.job_id)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const others = readFileSync('/etc/hosts', 'utf8').split('\n').filter((line) => !line.split(/\s+/).slice(1).includes(run.hostname))
  const path = `${directory}/hosts`
  writeFileSync(path, [`${run.address} ${run.hostname}`, ...others].join('\n'), { mode: 0o644 })
  return path
}

/** Checks that the process the plugin cloned is what it should be. */
function verifyPid1(claim: Claim, message: Message): { pid: number; startTime: number } {
  const pid = numberWord(message, 'pid') ?? 0
  const stat = processStat(pid)
  if (stat?.parent !== claim.pid || namespaceOf(pid, 'pid') === readlinkSync('/proc/self/ns/pid')) {
    throw new StintError('E_NOT_VERIFIED', `process ${pid} is no PID 1 made by the batch task`)
  }
  return { pid, startTime: stat.startTime }
}

/** What would keep the job from being continued: said while the user can still act. */
function warnings(claim: Claim): string[] {
  return !claim.requeue ? ['this job may not be requeued (--no-requeue or JobRequeue=0): it can be saved with --keep-running only'] : []
}

function answer(context: Context, link: GuardLink, claim: Claim, run: NewRun, restoring: boolean, cgroup: string): void {
  const env = Object.entries({ ...mpichEnvironment, ...openMpiEnvironment }).map(([key, value]) => `${key}=${value}`)
  link.send(restoring ? 'restore' : 'start', {
    hostname: run.hostname,
    hosts: claim.options.net === 'private' ? writeHosts(context, run) : undefined,
    net: claim.options.net,
    doorbell: claim.options.signal === 'doorbell' ? SIGUSR1 : undefined,
    cgroup,
    keep: claim.keep,
    env: restoring || claim.options.net === 'host' ? undefined : env,
  })
}

/** Namespaces made, network up: the sandbox stands. */
async function buildSandbox(context: Context, link: GuardLink, claim: Claim, run: Run, memberId: number): Promise<Sandbox> {
  const mounted = link.expect('mounted', mountSeconds)
  mounted.catch(() => undefined) // Awaited below, after the network.
  const pid1 = verifyPid1(claim, await link.expect('sandbox', mountSeconds))
  context.catalogue.members.setPid1(memberId, pid1.pid, pid1.startTime)
  if (claim.options.net === 'private') await context.network.connect(pid1.pid, run.address)
  await mounted
  return { memberId, run, options: claim.options, restarts: claim.restarts, pid1: pid1.pid, link, busy: false, deadline: undefined, notBefore: 0, plannedAt: undefined }
}

function register(context: Context, claim: Claim, newRun: NewRun, restoring: boolean, cgroup: string): { run: Run; memberId: number } {
  const { catalogue } = context
  return catalogue.transaction(() => {
    catalogue.runs.upsert(newRun)
    const member = catalogue.members.insert({
      run_id: newRun.id, member: 0, restarts: claim.restarts, node: context.node, state: 'opening', guard_pid: claim.pid, guard_start: claim.startTime,
      payload_cgroup: cgroup, end_time: claim.end, restore_from: null, opened_at: Date.now(),
    })
    catalogue.events.add(newRun.id, Date.now(), 'opened', { node: context.node, restarts: claim.restarts, restoring })
    const run = catalogue.runs.get(newRun.id)
    if (run === undefined) throw new StintError('E_INTERNAL', 'the run was not written')
    return { run, memberId: member.id }
  })
}

/**
 * Opens the sandbox of a batch task: verifies the claim, answers start or restore, builds the network, says go, and in
 * the restore case brings the payload back. Every fault before `go` ends in `refuse`, and the job runs plain.
 */
export async function openSandbox(context: Context, link: GuardLink, message: Message): Promise<void> {
  let memberId: number | undefined
  let restoring = false
  try {
    const claim = await verifyClaim(context, link, message)
    const found = findRun(context, claim)
    restoring = found.restoring
    const cgroup = makePayloadCgroup(claim.payloadPlace)
    mkdirSync(engineDirectory(context, claim.jobId), { recursive: true, mode: 0o700 })
    const registered = register(context, claim, found.run, restoring, cgroup)
    memberId = registered.memberId
    answer(context, link, claim, found.run, restoring, cgroup)
    const sandbox = await buildSandbox(context, link, claim, registered.run, memberId)
    context.sandboxes.set(claim.jobId, sandbox)
    context.catalogue.members.move(memberId, restoring ? 'restoring' : 'running', Date.now())
    link.onMessage = (next) => { handleMessage(context, sandbox, next) }
    link.onClose = () => { watchGuard(context, sandbox) }
    link.send('go')
    context.fault('opened')
    context.log.info({ job: claim.jobId, restoring, node: context.node }, 'sandbox opened')
    if (restoring) await restore(context, sandbox)
    else {
      armDeadline(context, sandbox)
      for (const text of warnings(claim)) link.send('say', { text })
    }
  } catch (cause) {
    const error = asStintError(cause)
    context.log.error({ err: error, peer: link.peer }, 'sandbox not opened')
    if (memberId !== undefined) abandonMember(context, memberId)
    const jobId = numberWord(message, 'job')
    if ((restoring || error.code === 'E_NO_CHECKPOINT') && jobId !== undefined) {
      link.send('park', { code: error.code, message: `${error.message}; the job is held` })
      await parkJob(context, jobId, error)
    } else link.send('refuse', { code: error.code, message: `${error.message}; the job runs without checkpoints. ${error.hint}` })
  }
}
