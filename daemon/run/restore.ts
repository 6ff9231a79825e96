import { StintError, asStintError } from '../core/errors.ts'
import type { MemberPort } from '../core/member.ts'
import { isBehindForged } from '../core/ways-back.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import type { Context, Sandbox } from '../context.ts'
import { audit, daemonItself, subjectOf } from '../images/audit.ts'
import { armDeadline } from './walltime-watch.ts'
import { exclusively } from './exclusively.ts'
import { writeBook } from './launches.ts'
import { localMember } from '../member/member.ts'
import { atAll, atAllOthers, memberFailure, membersOf } from './members.ts'
import { isCancelled, stintOf } from '../slurm/job-control.ts'
import { restorableImages } from '../images/restorable.ts'
import { watchSettling } from './probation.ts'
import { requireMember } from './member-step.ts'
import { assertNotStopping, pause } from '../stopping.ts'
import { isExhausted, type FailedImage, recordFailedWay, takeNextWay, unreadableWays } from './next-way.ts'

/** Between two tries to send a job its next way, once Slurm has refused it several times, seconds. */
const nextWaySeconds = 60

/** The members with a part in a checkpoint, the missing ones opened on their nodes of this stint. */
async function openMembers(context: Context, sandbox: Sandbox, { manifest }: StoredImage): Promise<MemberPort[]> {
  const others = await Promise.all(manifest.members.filter((member) => member !== 0).map(async (member) => (
    requireMember(context, sandbox, member, true).catch((cause: unknown) => { throw memberFailure({ member, node: sandbox.nodes[member] ?? context.node }, cause) })
  )))
  return [localMember(context, sandbox), ...others]
}

/** Lets all run on. On record before anyone is told: a daemon that dies in the middle finishes it. */
export async function resumeAll(context: Context, sandbox: Sandbox, members: readonly MemberPort[]): Promise<void> {
  context.catalogue.members.setResumeDecided(sandbox.memberId, true)
  await atAll(members, (member) => member.resume())
}

/** Restores one checkpoint on all its members, or on none. @throws StintError; every sandbox is empty again then */
async function restoreImage(context: Context, sandbox: Sandbox, image: StoredImage): Promise<void> {
  const { checkpoint } = image.manifest
  if (isExhausted(context, image)) throw new StintError('E_CRIU_RESTORE_FAILED', `checkpoint ${checkpoint} was tried ${context.config.restore.attempts} times already`)
  // Before it counts as tried: a node that does not fit, or an image that is damaged, says nothing about other nodes and images.
  await context.store.verify(image)
  await context.engine.assertFits(image.directory)
  context.store.count(image.manifest, 'attempt')
  const members = await openMembers(context, sandbox, image)
  try {
    writeBook(context, sandbox, image.manifest.launches)
    await atAll(members, (member) => member.restore(checkpoint))
    await resumeAll(context, sandbox, members)
  } catch (error) {
    assertNotStopping(context, error)
    context.catalogue.members.setResumeDecided(sandbox.memberId, false)
    const failures = await atAllOthers(members, (member) => member.clear())
    if (failures[0] !== undefined) throw failures[0].error
    throw error
  }
}

/** The payload runs again: on record, and its next deadline armed. */
export function markRestored(context: Context, sandbox: Sandbox, checkpoint: number, seconds: number | undefined): void {
  const nodes = [...new Set(sandbox.nodes)].join(', ')
  audit(context, daemonItself, { action: 'restore', subject: subjectOf(sandbox.run), checkpoint, detail: { nodes: sandbox.nodes } })
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'restored', { checkpoint, node: context.node, nodes: sandbox.nodes, seconds })
  sandbox.link?.send('say', { text: `continued from checkpoint ${checkpoint} on ${nodes}` })
  watchSettling(context, sandbox, checkpoint)
  armDeadline(context, sandbox)
}

/**
 * A sandbox that stands is given up by nobody: while its job cannot be sent its next way, its owner is told why, and it is tried again.
 * @throws StintError E_STOPPING
 */
async function goOn(context: Context, sandbox: Sandbox, failed: readonly FailedImage[]): Promise<void> {
  const { job_id: job, id } = sandbox.run
  for (;;) {
    try {
      await takeNextWay(context, sandbox, failed)
      return
    } catch (cause) {
      assertNotStopping(context, cause)
      const error = asStintError(cause)
      context.log.error({ err: error, job }, 'the job could not be sent its next way')
      context.catalogue.runs.setError(id, error.code, `${error.message}. ${error.hint}`)
      sandbox.link?.send('say', { text: `no checkpoint could be restored here, and the job could not be put back into the queue: ${error.message}; it is tried again` })
    }
    await pause(context, nextWaySeconds)
    if (context.sandboxes.get(job) !== sandbox) return
  }
}

/**
 * Continues a run from its newest checkpoint that can be restored; older ones are tried in turn. When none can, the job goes the
 * way that run/next-way.ts finds. No checkpoint older than a forged one is taken.
 * @param earlier what went wrong just before, in this sandbox
 */
export async function restore(context: Context, sandbox: Sandbox, earlier: readonly FailedImage[] = []): Promise<void> {
  await exclusively(sandbox, async () => {
    const { job_id: job, uid } = sandbox.run
    const failed = [...earlier, ...unreadableWays(context, sandbox)]
    for (const image of restorableImages(context, job, uid, sandbox.restarts)) {
      if (isBehindForged(image.manifest.checkpoint, failed)) break
      const started = Date.now()
      try {
        await restoreImage(context, sandbox, image)
        markRestored(context, sandbox, image.manifest.checkpoint, (Date.now() - started) / 1000)
        return
      } catch (error) {
        assertNotStopping(context, error)
        audit(context, daemonItself, { action: 'restore', subject: subjectOf(sandbox.run), checkpoint: image.manifest.checkpoint, error })
        if (await isCancelled(context, stintOf(sandbox))) {
          context.log.info({ job }, 'cancelled while it was restored')
          sandbox.link?.send('release', { status: 1 })
          return
        }
        const way = recordFailedWay(context, sandbox, image, asStintError(error))
        failed.push(way)
        // An older checkpoint may need less; what the job has done since is worth more than going on at once.
        if (way.error.code === 'E_TOO_LITTLE_MEMORY' || way.refused === true) break
      }
    }
    await goOn(context, sandbox, failed)
  })
}

/** The same once what is left of an earlier try has been ended, on all members. */
export async function restoreAgain(context: Context, sandbox: Sandbox, earlier: readonly FailedImage[] = []): Promise<void> {
  const members = await membersOf(context, sandbox)
  await Promise.allSettled(members.map(async (member) => member.clear()))
  await restore(context, sandbox, earlier)
}
