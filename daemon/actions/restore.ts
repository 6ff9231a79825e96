import { StintError, asStintError } from '../core/errors.ts'
import type { MemberPort } from '../core/member.ts'
import type { StoredImage } from '../../plugins/stores/store.ts'
import type { Context, Sandbox } from './context.ts'
import { armDeadline } from './deadline.ts'
import { exclusively } from './exclusively.ts'
import { writeBook } from './launches.ts'
import { localMember } from './local-member.ts'
import { atAll, atAllOthers } from './members.ts'
import { parkJob } from './park.ts'
import { requireMember } from './start-member.ts'

/** Member 0's sealed images of a job that its owner's requeued job may continue from, newest first. */
export function restorableImages(context: Context, jobId: number, uid: number, restarts: number): StoredImage[] {
  return context.store.list(jobId).filter(({ manifest }) => manifest.uid === uid && manifest.restarts < restarts && manifest.member === 0)
}

/** The members with a part in a checkpoint, the missing ones opened on their nodes of this stint. */
async function openMembers(context: Context, sandbox: Sandbox, { manifest }: StoredImage): Promise<MemberPort[]> {
  const others = await Promise.all(manifest.members.filter((m) => m !== 0).map((m) => requireMember(context, sandbox, m, true)))
  return [localMember(context, sandbox), ...others]
}

/** Lets all run on. On record before anyone is told: a daemon that dies in the middle finishes it. */
export async function resumeAll(context: Context, sandbox: Sandbox, members: readonly MemberPort[]): Promise<void> {
  context.catalogue.members.setResumeDecided(sandbox.memberId, true)
  await atAll(members, (member) => member.resume())
}

/** Restores one checkpoint on all its members, or on none. @throws StintError; every sandbox is empty again then */
async function restoreImage(context: Context, sandbox: Sandbox, image: StoredImage): Promise<void> {
  const { run, job, checkpoint } = image.manifest
  const attempts = context.store.countAttempt({ job, run, checkpoint })
  if (attempts > context.config.restore.attempts) throw new StintError('E_CRIU_RESTORE_FAILED', `checkpoint ${checkpoint} was tried ${attempts - 1} times already`)
  const members = await openMembers(context, sandbox, image)
  try {
    writeBook(context, sandbox, image.manifest.launches)
    await atAll(members, (member) => member.restore(checkpoint))
    await resumeAll(context, sandbox, members)
  } catch (error) {
    context.catalogue.members.setResumeDecided(sandbox.memberId, false)
    const failures = await atAllOthers(members, (member) => member.clear())
    if (failures[0] !== undefined) throw failures[0].error
    throw error
  }
}

/** The payload runs again: on record, and its next deadline armed. */
export function markRestored(context: Context, sandbox: Sandbox, checkpoint: number, seconds: number | undefined): void {
  const nodes = [...new Set(sandbox.nodes)].join(', ')
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'restored', { checkpoint, node: context.node, nodes: sandbox.nodes, seconds })
  sandbox.link?.send('say', { text: `continued from checkpoint ${checkpoint} on ${nodes}` })
  armDeadline(context, sandbox)
}

/**
 * Continues a run from its newest checkpoint that can be restored; older ones are tried in turn. When none can, the job is
 * held with a comment: it is never started afresh over its own results, and never tried for ever.
 */
export async function restore(context: Context, sandbox: Sandbox): Promise<void> {
  await exclusively(sandbox, async () => {
    let last: StintError | undefined
    for (const image of restorableImages(context, sandbox.run.job_id, sandbox.run.uid, sandbox.restarts)) {
      const started = Date.now()
      try {
        await restoreImage(context, sandbox, image)
        markRestored(context, sandbox, image.manifest.checkpoint, (Date.now() - started) / 1000)
        return
      } catch (error) {
        last = asStintError(error)
        context.log.error({ err: last, job: sandbox.run.job_id, checkpoint: image.manifest.checkpoint, ...last.details }, 'restore failed')
        context.catalogue.events.add(sandbox.run.id, Date.now(), 'restore-failed', { checkpoint: image.manifest.checkpoint, code: last.code, message: last.message, hint: last.hint })
      }
    }
    const error = last ?? new StintError('E_NO_CHECKPOINT', 'no sealed checkpoint is left')
    context.catalogue.runs.setError(sandbox.run.id, error.code, `${error.message}. ${error.hint}`)
    sandbox.link?.send('say', { text: `the job could not be continued and is held: ${error.message}` })
    await parkJob(context, sandbox.run.job_id, error)
    sandbox.link?.send('release', { status: 1 })
  })
}
