import { StintError } from '../core/errors.ts'
import { crashSignal } from '../core/ways-back.ts'
import type { Context, Sandbox } from '../context.ts'
import { leaveNode, otherNodes } from './another-node.ts'
import { settleSeconds } from '../member/probation-seconds.ts'
import { exclusively } from './exclusively.ts'
import { goBackIfLost } from './lost-member.ts'
import { isCancelled, stintOf } from '../slurm/job-control.ts'
import { type FailedImage, recordFailedWay } from './next-way.ts'

/** Once the payload has lived for a while after its restore, that checkpoint's earlier attempts count no more. */
export function watchSettling(context: Context, sandbox: Sandbox, checkpoint: number): void {
  sandbox.settling?.[Symbol.dispose]()
  sandbox.settling = context.clock.after(context.config.restore.settle_seconds * 1000, () => {
    const live = context.sandboxes.get(sandbox.run.job_id) === sandbox
    if (live && context.catalogue.members.require(sandbox.memberId).state !== 'restoring') context.store.clearAttempts({ job: sandbox.run.job_id, run: sandbox.run.id, checkpoint })
  })
}

/** The restore that is just being followed up is on record before its payload's end is judged. */
const busyLookMilliseconds = 50

/** From the first image on; whoever asks earlier has nothing to go back to. */
export function watchEnd(context: Context, sandbox: Sandbox): void {
  if (sandbox.hosts.length > 1) sandbox.link?.send('settle', { seconds: settleSeconds(context, sandbox) })
}

/** The payload of a run over several nodes has ended. */
async function answerEndOfSeveral(context: Context, sandbox: Sandbox, waitStatus: number): Promise<void> {
  const goesBack = waitStatus !== 0 && (await goBackIfLost(context, sandbox))
  if (goesBack) {
    // What the next daemon finds when this one ends before Slurm has taken the job back.
    context.catalogue.transaction(() => {
      context.catalogue.members.setResumeDecided(sandbox.memberId, false)
      context.catalogue.members.move(sandbox.memberId, 'restoring', Date.now())
    })
  }
  // Held until it is in the queue again: released by run/lost-member.ts.
  sandbox.link?.send(goesBack ? 'again' : 'end')
}

/**
 * The payload has ended within restore.settle_seconds of a restore, and the guard asks what that means. A crash is no end: the
 * program ran when it was saved. It goes on from its checkpoint on another node, or else here, as often as that may be tried;
 * everything else is the job's own end.
 * @param again restores here once more
 */
export async function answerEarlyEnd(context: Context, sandbox: Sandbox, waitStatus: number, again: (crash: FailedImage) => Promise<void>): Promise<void> {
  if (sandbox.hosts.length > 1) {
    await answerEndOfSeveral(context, sandbox, waitStatus)
    return
  }
  // This restore has not come through: what it counted stays.
  sandbox.settling?.[Symbol.dispose]()
  while (sandbox.busy) await context.clock.sleep(busyLookMilliseconds)
  const signal = crashSignal(waitStatus)
  const member = context.catalogue.members.require(sandbox.memberId)
  const image = context.store.list(sandbox.run.job_id).find(({ manifest }) => manifest.run === sandbox.run.id && manifest.checkpoint === member.restore_from)
  if (signal === undefined || image === undefined || member.state !== 'running' || (await isCancelled(context, stintOf(sandbox)))) {
    sandbox.link?.send('end')
    return
  }
  sandbox.link?.send('again')
  context.catalogue.members.move(sandbox.memberId, 'restoring', Date.now())
  const error = new StintError('E_CRASHED', `the program crashed (signal ${signal}) right after checkpoint ${image.manifest.checkpoint} was restored on ${context.node}`)
  const crash = recordFailedWay(context, sandbox, image, error)
  const others = crash.final ? [] : await otherNodes(context, sandbox.run.job_id)
  if (others.length === 0) {
    await again(crash)
    return
  }
  await exclusively(sandbox, async () => leaveNode(context, sandbox, error))
  sandbox.link?.send('release', { status: 1 })
}
