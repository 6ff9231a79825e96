import { randomUUID } from 'node:crypto'
import type { NewRun } from '../catalogue/runs.ts'
import { allotBlock, allotNetwork, memberAddress, type TakenNetworks } from '../core/addresses.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { emptyBook } from '../core/launch-book.ts'
import { parseOptions, type RunOptions } from '../core/options.ts'
import { hostsOf, placeMembers } from '../core/placement.ts'
import { word, type Message } from '../core/wire.ts'
import type { GuardLink } from '../member/monitor-connection.ts'
import type { SlurmJob } from '../slurm/job.ts'
import { announcedJob } from '../slurm/job-records.ts'
import { buildSandbox, type Blueprint } from '../member/open.ts'
import { verifyClaim, type Claim } from '../member/claim.ts'
import { abandonMember } from '../member/close.ts'
import type { Context, Sandbox } from '../context.ts'
import { armDeadline } from './walltime-watch.ts'
import { encapsulationFor } from './encapsulation.ts'
import { isMarkedSaved } from '../slurm/saved-note.ts'
import { ownNetworks } from './own-networks.ts'
import { isStoreLocal } from '../images/locality.ts'
import { isCancelled, putBack } from '../slurm/job-control.ts'
import { restorableImages } from '../images/restorable.ts'
import { restore } from './restore.ts'
import { runSide } from './run-side.ts'
import { mayResubmit } from './resubmit.ts'
import { dropFinished, removeImages } from '../images/retention.ts'
import { assertNotStopping, logFailure } from '../stopping.ts'
import { fallbackOf, ofCheckpoint } from './next-way.ts'

/** Seconds other nodes have to say which networks they carry: the plugin waits for the answer. */
const networksSeconds = 4

/** What Slurm says of the job, once owner and claim agree. */
interface Facts {
  readonly claim: Claim
  readonly job: SlurmJob
  /** Login name of the owner. */
  readonly user: string
  /** Nodes of the allocation in Slurm's order. */
  readonly allocated: readonly string[]
  readonly optionsText: string
  readonly options: RunOptions
  /** Where slurmd put the job script on this node; empty when the plugin did not say. */
  readonly script: string
}

/** @throws StintError E_NOT_VERIFIED, E_BAD_REQUEST, E_BAD_OPTION, E_SLURM */
async function learn(context: Context, link: GuardLink, message: Message): Promise<Facts> {
  const claim = verifyClaim(link, message)
  if (claim.step !== 'batch') throw new StintError('E_NOT_VERIFIED', `step ${claim.step} of job ${claim.jobId} is not the batch step`)
  const [job, user] = await Promise.all([announcedJob(context, claim.jobId), context.users.nameOf(claim.uid)])
  if (job.uid !== claim.uid) throw new StintError('E_NOT_VERIFIED', `job ${claim.jobId} belongs to uid ${job.uid}`)
  const allocated = job.nodes === context.node ? [context.node] : await context.scontrol.hostNames(job.nodes)
  const optionsText = word(message, 'options') ?? ''
  return { claim, job, user, allocated, optionsText, options: parseOptions(optionsText), script: word(message, 'script') ?? '' }
}

/** What is in use on these nodes: a new network must meet none of it. @throws StintError E_PEER */
async function takenNetworks(context: Context, nodes: readonly string[]): Promise<TakenNetworks> {
  const theirs = await Promise.all(nodes.filter((node) => node !== context.node).map((node) => context.cluster.networks(node, networksSeconds)))
  const all = [ownNetworks(context), ...theirs]
  return { vnis: new Set(all.flatMap((n) => n.vnis)), addresses: new Set(all.flatMap((n) => n.addresses)) }
}

/** A run that begins. */
async function newRun(context: Context, { claim, job, user, allocated, optionsText, options, script }: Facts): Promise<Blueprint> {
  // In the node's own network a run is what it is on one node; the other nodes are as without us.
  const several = allocated.length > 1 && options.net === 'private'
  if (several && isStoreLocal(context)) {
    throw new StintError('E_STORE_LOCAL', `${context.store.name} is on ${context.node} alone: a job over several nodes cannot be saved there`)
  }
  const hosts = several ? hostsOf(allocated, context.node) : [context.node]
  const [taken, encapsulation] = await Promise.all([takenNetworks(context, several ? allocated : []), several ? encapsulationFor(context, hosts) : undefined])
  const { pool } = context.config.network
  const network = encapsulation === undefined ? undefined : { ...allotNetwork(pool, claim.jobId, taken), encapsulation }
  const prefix = network?.prefix ?? allotBlock(pool, claim.jobId, taken.addresses)
  const run: NewRun = {
    id: randomUUID(), job_id: claim.jobId, uid: job.uid, gid: claim.gid, user, options: optionsText, hostname: context.node,
    address: memberAddress(prefix, 0), script, outputs: JSON.stringify(claim.truncated), history: '[]', created_at: Date.now(),
    hosts: JSON.stringify(hosts), network: network === undefined ? null : JSON.stringify(network), launches: JSON.stringify(emptyBook),
  }
  return blueprint({ claim, job }, { run, options, restoring: false, hosts, nodes: hosts, network })
}

function blueprint({ claim, job }: Pick<Facts, 'claim' | 'job'>, more: Pick<Blueprint, 'run' | 'options' | 'restoring' | 'hosts' | 'nodes' | 'network'>): Blueprint {
  return { claim, member: 0, coordinator: undefined, restarts: job.restarts, end: job.endTime === undefined ? null : job.endTime * 1000, ...more }
}

/**
 * A job whose images nobody vouches for does not start from the beginning either: it would redo, and overwrite, what it has done.
 * @throws StintError E_IMAGE_FORGED
 */
function assertNoneForged(context: Context, jobId: number): void {
  const [forged] = context.store.unreadable(jobId).filter(({ error }) => error.code === 'E_IMAGE_FORGED').toSorted((a, b) => b.checkpoint - a.checkpoint)
  if (forged !== undefined) throw ofCheckpoint(forged.error, forged.checkpoint, forged.directory)
}

/** The job was saved, and nothing that can be read of it is here. @throws StintError E_NO_CHECKPOINT unless it wants to start afresh then */
function assertMayStartAfresh(context: Context, { claim, options }: Facts): void {
  const unreadable = context.store.unreadable(claim.jobId).length
  const why = `the job was saved, but ${context.store.name} on ${context.node} has no checkpoint of it${unreadable === 0 ? '' : ` that can be read (${unreadable} damaged)`}`
  if (fallbackOf(context, options) === 'hold') throw new StintError('E_NO_CHECKPOINT', why)
  try {
    context.store.assertUsable(0)
  } catch (cause) {
    throw new StintError('E_NO_CHECKPOINT', `${why}: ${asStintError(cause).message}`, { cause }) // A store that is away says nothing about its images.
  }
  context.log.error({ job: claim.jobId }, `${why}; it runs from the start, as it asked for`)
}

/**
 * The run this stint belongs to, and whether it continues from an image.
 * @throws StintError E_TOO_FEW_NODES; E_IMAGE_FORGED; E_NO_CHECKPOINT when there is none although the job was saved: started afresh it
 *   would redo, and overwrite, what it has done
 */
async function findRun(context: Context, facts: Facts): Promise<Blueprint> {
  const { claim, job } = facts
  const saved = isMarkedSaved(job)
  // Before its first start a job has images only when they were handed over to it, which Slurm has a note of then.
  const image = job.restarts > 0 || saved ? restorableImages(context, claim.jobId, job.uid, job.restarts)[0] : undefined
  if (image === undefined) {
    if (job.restarts > 0 || saved) assertNoneForged(context, claim.jobId)
    if (saved) assertMayStartAfresh(context, facts)
    // An earlier job had this id: slurmctld says that this one starts for the first time.
    if (job.restarts === 0) for (const stale of new Set([...context.store.list(claim.jobId).map((i) => i.manifest.run), ...context.store.unreadable(claim.jobId).map((odd) => odd.run)])) removeImages(context, claim.jobId, stale)
    return newRun(context, facts)
  }
  const { manifest } = image
  const nodes = manifest.network === null ? [context.node] : placeMembers(manifest.nodes, facts.allocated, context.node)
  const network = manifest.network === null ? undefined : { ...manifest.network, encapsulation: await encapsulationFor(context, nodes) }
  const run: NewRun = {
    id: manifest.run, job_id: manifest.job, uid: manifest.uid, gid: manifest.gid, user: manifest.user, options: manifest.options, hostname: manifest.hostname, address: manifest.address,
    script: manifest.script, outputs: JSON.stringify(claim.truncated), history: JSON.stringify(manifest.history), created_at: manifest.history[0]?.startedAt ?? manifest.createdAt,
    hosts: JSON.stringify(manifest.hosts), network: network === undefined ? null : JSON.stringify(network), launches: JSON.stringify(manifest.launches),
  }
  return blueprint(facts, { run, options: parseOptions(manifest.options), restoring: true, hosts: manifest.hosts, nodes, network })
}

/** What would keep the job from being continued: said while the user can still act. */
function warnings(context: Context, { job, allocated, options }: Facts): string[] {
  const whatInstead = mayResubmit(context, options)
    ? 'when it is saved it goes on as a new job of yours'
    : `it can be saved with --keep-running only${options.continue === 'submit' ? '; the site does not allow continue=submit' : ''}`
  return [
    ...(job.requeue ? [] : [`this job may not be requeued (--no-requeue or JobRequeue=0): ${whatInstead}`]),
    ...(isStoreLocal(context) ? [`${context.store.name} is on ${context.node} alone: once saved the job can continue on this node only, and is requeued for it`] : []),
    ...(allocated.length > 1 && options.net === 'host' ? [`with net=host only the processes on ${allocated[0] ?? 'the first node'} can be saved: submit without it`] : []),
  ]
}

/**
 * The opening failed. A saved job does not run plain: it is put back into the queue, as a try of its newest checkpoint, and held
 * when those are used up. Every other one runs without us.
 * @param facts as far as they were learnt
 */
async function giveUp(context: Context, link: GuardLink, facts: Facts | undefined, restoring: boolean, error: StintError): Promise<void> {
  if (facts === undefined || !(restoring || ['E_NO_CHECKPOINT', 'E_TOO_FEW_NODES', 'E_IMAGE_FORGED'].includes(error.code))) {
    link.send('refuse', { code: error.code, message: `${error.message}; the job runs without checkpoints. ${error.hint}` })
    return
  }
  const { claim: { jobId }, job: { restarts, uid } } = facts
  const [image] = restoring ? restorableImages(context, jobId, uid, restarts) : []
  if (await isCancelled(context, { jobId, restarts })) {
    link.send('park', { code: error.code, message: 'the job was cancelled' })
    if (image !== undefined) dropFinished(context, jobId, image.manifest.run)
    return
  }
  const triesLeft = image !== undefined && context.store.count(image.manifest, 'attempt') < context.config.restore.attempts
  link.send('park', { code: error.code, message: `${error.message}; the job is ${triesLeft ? 'put back into the queue and tried again' : 'held'}` })
  await putBack(context, { jobId, restarts }, triesLeft ? undefined : error)
  if (image !== undefined && !triesLeft) context.store.clearAttempts(image.manifest)
}

/** The first look at a job waits until its script has started: both want the processor, and nothing is due so soon. */
const firstLookSeconds = 0.5

/** What comes after `go`. From here on nothing but its own end closes the sandbox, whatever fails. */
async function begin(context: Context, sandbox: Sandbox, facts: Facts, restoring: boolean): Promise<void> {
  if (!restoring) {
    armDeadline(context, sandbox, firstLookSeconds)
    for (const text of warnings(context, facts)) sandbox.link?.send('say', { text })
    return
  }
  await restore(context, sandbox).catch((error: unknown) => { logFailure(context, error, facts.claim.jobId, 'the restore did not come to its end') })
}

/**
 * Opens the sandbox of a batch task: verifies the claim, answers start or restore, builds the network, says go, and in
 * the restore case brings the payload back. Every fault before `go` ends in `refuse`, and the job runs plain.
 */
export async function openSandbox(context: Context, link: GuardLink, message: Message): Promise<void> {
  let memberId: number | undefined
  let restoring = false
  let facts: Facts | undefined
  try {
    facts = await learn(context, link, message)
    const plan = await findRun(context, facts)
    restoring = plan.restoring
    if (!link.open) {
      // Nothing is made yet. The plugin has lost patience: it asks anew, and gives up by itself if need be.
      context.log.warn({ job: facts.claim.jobId, peer: link.peer }, 'the task is gone, or asks anew')
      return
    }
    const sandbox = await buildSandbox(context, link, plan, runSide(context), (id) => { memberId = id })
    sandbox.requeue = facts.job.requeue
    await begin(context, sandbox, facts, restoring)
  } catch (cause) {
    assertNotStopping(context, cause) // The plugin asks again.
    const error = asStintError(cause)
    context.log.error({ err: error, peer: link.peer }, 'sandbox not opened')
    if (memberId !== undefined) abandonMember(context, memberId)
    await giveUp(context, link, facts, restoring, error)
  }
}
