import type { StoredImage } from '../../plugins/stores/store.ts'
import { StintError, type ErrorCode } from '../core/errors.ts'
import { nextWay, type FailedWay, type Fallback } from '../core/ways-back.ts'
import { leaveNode, otherNodes } from './another-node.ts'
import type { Context, Sandbox } from '../context.ts'
import { putBack, stintOf } from '../slurm/job-control.ts'
import { startAfresh } from './start-afresh.ts'

/** A checkpoint that could not be restored here, and why. */
export interface FailedImage extends FailedWay {
  readonly error: StintError
  /** Missing where its manifest cannot be read. */
  readonly image: StoredImage | undefined
}

/** What becomes of a job none of whose checkpoints can be restored. */
export function fallbackOf(context: Context, options: Sandbox['options']): Fallback {
  return options.fallback ?? (context.config.restore.fallback === 'start' ? 'start' : 'hold')
}

/** Whether a checkpoint was tried as often as it may be, over all nodes. */
export function isExhausted(context: Context, image: StoredImage): boolean {
  return context.store.counted(image.manifest, 'attempt') >= context.config.restore.attempts
}

/** Faults that every node would meet. */
const damage: ReadonlySet<ErrorCode> = new Set(['E_IMAGE_DAMAGED'])

function record(context: Context, sandbox: Sandbox, checkpoint: number, error: StintError): void {
  context.log.error({ err: error, job: sandbox.run.job_id, checkpoint, ...error.details }, 'restore failed')
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'restore-failed', { checkpoint, code: error.code, message: error.message, hint: error.hint })
  sandbox.link?.send('say', { text: `checkpoint ${checkpoint} could not be restored on ${context.node}: ${error.code}: ${error.message}` })
}

/** A key that this node lacks may be on another one; nothing else helps a forged image. */
function judge(error: StintError): Pick<FailedImage, 'final' | 'forged'> {
  return error.code === 'E_IMAGE_FORGED' ? { forged: true, final: error.details['missingKey'] === undefined } : { final: damage.has(error.code) }
}

/** Puts the attempt on record with its reason. */
export function recordFailedWay(context: Context, sandbox: Sandbox, image: StoredImage, error: StintError): FailedImage {
  const { checkpoint } = image.manifest
  record(context, sandbox, checkpoint, error)
  const judged = judge(error)
  return { checkpoint, error, image, ...judged, final: judged.final || isExhausted(context, image), refused: error.code === 'E_IDENTITY_CHANGED' }
}

/** Checkpoints of this run that cannot be read or trusted any more: on record like every other that fails. */
export function unreadableWays(context: Context, sandbox: Sandbox): FailedImage[] {
  return context.store.unreadable(sandbox.run.job_id).filter(({ run }) => run === sandbox.run.id).toReversed().map(({ checkpoint, directory, error: cause }) => {
    const error = ofCheckpoint(cause, checkpoint, directory)
    record(context, sandbox, checkpoint, error)
    return { checkpoint, error, image: undefined, ...judge(error) }
  })
}

/** What is wrong with a checkpoint's manifest, for those who read of it elsewhere. */
export function ofCheckpoint(cause: StintError, checkpoint: number, directory: string): StintError {
  return new StintError(cause.code, `checkpoint ${checkpoint}: ${cause.message}`, { cause, hint: cause.hint, details: { ...cause.details, directory } })
}

/** Of several reasons a refusal, then the one that somebody can do something about: damage and used-up attempts are told last. */
function mainReason(failed: readonly FailedImage[]): StintError {
  return (failed.find((way) => way.refused === true || way.forged === true) ?? failed.find((way) => !way.final) ?? failed[0])?.error ?? new StintError('E_NO_CHECKPOINT', 'no sealed checkpoint is left')
}

/** Of a run over several nodes the one whose member failed. */
function nodeToLeave(context: Context, { details }: StintError): string {
  return typeof details['node'] === 'string' ? details['node'] : context.node
}

/**
 * Whether there are nodes enough without the one to leave. A checkpoint that a CPU does not suit, or whose key is not there, may leave restore.moves nodes;
 * other faults are bounded by the attempts of each checkpoint.
 */
async function mayLeave(context: Context, sandbox: Sandbox, failed: readonly FailedImage[], leaving: string): Promise<boolean> {
  const open = failed.filter((way) => !way.final)
  // Neither counts as a try: the next node may have the CPU, or the key.
  const moving = open.filter(({ error: { code } }) => code === 'E_CPU_UNFIT' || code === 'E_IMAGE_FORGED')
  const { job_id: job, id: run } = sandbox.run
  if (open.length === 0 || (moving.length === open.length && moving.every(({ checkpoint }) => context.store.count({ job, run, checkpoint }, 'move') > context.config.restore.moves))) return false
  // The limit is the job's, and the same everywhere.
  if (open.some((way) => way.error.code === 'E_TOO_LITTLE_MEMORY')) return false
  return (await otherNodes(context, sandbox.run.job_id, leaving)).length >= sandbox.hosts.length
}

async function hold(context: Context, sandbox: Sandbox, error: StintError): Promise<void> {
  sandbox.link?.send('say', { text: `the job could not be continued and is held: ${error.message}` })
  await putBack(context, stintOf(sandbox), error)
  // Whoever releases the job wants it tried again; until then nothing is.
  for (const { manifest } of context.store.list(sandbox.run.job_id)) context.store.clearAttempts(manifest)
}

/** No checkpoint could be restored on this node: elsewhere, from the start or held, as core/ways-back.ts has it. */
export async function takeNextWay(context: Context, sandbox: Sandbox, failed: readonly FailedImage[]): Promise<void> {
  const error = mainReason(failed)
  const leaving = nodeToLeave(context, error)
  const way = nextWay(failed, await mayLeave(context, sandbox, failed, leaving), fallbackOf(context, sandbox.options))
  context.catalogue.runs.setError(sandbox.run.id, error.code, `${error.message}. ${error.hint}`)
  context.catalogue.events.add(sandbox.run.id, Date.now(), 'way-on', { way, code: error.code })
  if (way === 'elsewhere') await leaveNode(context, sandbox, error, leaving)
  else if (way === 'start') await startAfresh(context, sandbox, error)
  else await hold(context, sandbox, error)
  sandbox.link?.send('release', { status: 1 })
}
