import { StintError, asStintError } from '../core/errors.ts'
import type { Context, Sandbox } from '../context.ts'
import { putBack, stintOf } from '../slurm/job-control.ts'
import { restorableImages } from '../images/restorable.ts'
import { assertNotStopping, logFailure, pause } from '../stopping.ts'

/** How long the daemon of a node may take to say that it is there, seconds. The guard waits for the answer. */
const helloSeconds = 3
/** Between two tries to put it back, once Slurm has refused it several times, seconds. */
const goBackSeconds = 60

/**
 * A node of a run over several has died, and the rest of the run with it, sooner or later: MPI ends all ranks when it misses one.
 * That is no end of the job's own. It goes back into the queue, to its last checkpoint, unless it has none.
 */

/** The nodes whose daemons do not answer. */
async function silentNodes(context: Context, { nodes }: Sandbox): Promise<string[]> {
  const others = nodes.filter((node) => node !== context.node)
  const answers = await Promise.allSettled(others.map(async (node) => context.peers.hello(node, { timeoutSeconds: helloSeconds })))
  return others.filter((_, at) => answers[at]?.status === 'rejected')
}

/** Not once it has been saved and ended: it is on its way already. */
function mayGoBack(context: Context, sandbox: Sandbox): boolean {
  const { job_id: job, uid } = sandbox.run
  if (context.catalogue.members.require(sandbox.memberId).state === 'held') return false
  return sandbox.requeue === true && restorableImages(context, job, uid, sandbox.restarts + 1).some(({ manifest }) => manifest.run === sandbox.run.id)
}

/**
 * Puts the job back when one of its nodes is lost; nobody saves what is left of it any more.
 * @returns whether it goes back; false leaves everything as it is
 */
export async function goBackIfLost(context: Context, sandbox: Sandbox): Promise<boolean> {
  if (!mayGoBack(context, sandbox)) return false
  const silent = await silentNodes(context, sandbox)
  if (sandbox.lost || silent.length === 0) return sandbox.lost
  if (!mayGoBack(context, sandbox)) return false
  sandbox.lost = true
  const { job_id: job, id } = sandbox.run
  const text = `${silent.join(', ')} does not answer any more`
  context.log.error({ job, silent }, 'a node of the job is lost; it goes back to its last checkpoint')
  context.catalogue.events.add(id, Date.now(), 'node-lost', { nodes: silent })
  sandbox.link?.send('say', { text: `${text}; the job is requeued and continues from its last checkpoint` })
  void goBack(context, sandbox).catch((error: unknown) => { logFailure(context, error, job, 'the job could not be put back') })
  return true
}

/** Its sandbox stays until Slurm has taken it back: ended before, it would count as failed. */
async function goBack(context: Context, sandbox: Sandbox): Promise<void> {
  for (;;) {
    try {
      await putBack(context, stintOf(sandbox))
      break
    } catch (error) {
      assertNotStopping(context, error)
      context.log.error({ job: sandbox.run.job_id, err: asStintError(error) }, 'the job could not be put back; trying again')
      context.catalogue.runs.setError(sandbox.run.id, 'E_SLURM', asStintError(error).message)
    }
    await pause(context, goBackSeconds)
    if (context.sandboxes.get(sandbox.run.job_id) !== sandbox) return
  }
  sandbox.link?.send('release', { status: 1 })
}

/** @throws StintError E_NOT_RUNNING: an image of what is left would be one of half a run */
export function assertWhole(sandbox: Sandbox): void {
  if (sandbox.lost) throw new StintError('E_NOT_RUNNING', `job ${sandbox.run.job_id} has lost a node and goes back to its last checkpoint`)
}
