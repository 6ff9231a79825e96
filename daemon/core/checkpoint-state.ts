import { StintError } from './errors.ts'

/**
 * What is on record of a checkpoint: two facts that have nothing to do with each other, and what Slurm has made of it.
 *
 * - How durable its image is (the phase): being written; written, with the payload frozen; sealed. `dropped` once it is given up.
 * - What was decided (by the coordinator): nothing yet, commit, abort. On record before anybody is told.
 *
 * A checkpoint that ends the job is sealed before it is committed, so nothing is killed that is not durable. One that keeps the job
 * running is committed as soon as it is written, and sealed beside the payload.
 */

/** In the order of a life; `dropped` ends it from any of them. */
export const phases = ['writing', 'written', 'sealed', 'dropped'] as const
export type Phase = (typeof phases)[number]

export const decisions = ['none', 'commit', 'abort'] as const
export type CheckpointDecision = (typeof decisions)[number]

/** As a row of the catalogue has it. */
export interface CheckpointFacts {
  readonly phase: Phase
  readonly decision: CheckpointDecision
  readonly keep_running: 0 | 1
  /** Slurm has taken the job back into the queue. */
  readonly requeued: 0 | 1
}

const illegal = (from: CheckpointFacts, what: string): StintError => (
  new StintError('E_INTERNAL', `illegal step: a checkpoint that is ${stateOf(from)} cannot be ${what}`)
)

/** @throws StintError E_INTERNAL when the image cannot be that durable next */
export function assertPhase(from: CheckpointFacts, to: Exclude<Phase, 'dropped'>): void {
  if (from.phase === 'dropped' || phases.indexOf(to) !== phases.indexOf(from.phase) + 1) throw illegal(from, to)
}

/** @throws StintError E_INTERNAL when the payload would end before its image is durable, or something else was decided */
export function assertCommit(from: CheckpointFacts): void {
  const durable = from.phase === 'sealed' || (from.phase === 'written' && from.keep_running === 1)
  if (from.decision !== 'none' || !durable) throw illegal(from, 'committed')
}

/**
 * What becomes of the decision when the image is given up. A payload that is to run on does so by either word, so what was decided
 * for it stays; an end that was decided is taken back, where the payload proved to live.
 * @throws StintError E_INTERNAL when Slurm has requeued the job for this image, or it is given up already
 */
export function givenUp(from: CheckpointFacts): CheckpointDecision {
  if (from.phase === 'dropped' || from.requeued === 1) throw illegal(from, 'given up')
  return from.decision === 'commit' && from.keep_running === 1 ? 'commit' : 'abort'
}

/** @throws StintError E_INTERNAL when the job does not live in this image alone */
export function assertRequeued(from: CheckpointFacts): void {
  if (from.phase !== 'sealed' || from.decision !== 'commit' || from.keep_running === 1 || from.requeued === 1) throw illegal(from, 'requeued')
}

/** Whether something is left to be done for it: after a crash somebody must. */
export function isOpen({ phase, keep_running: keeps, requeued }: CheckpointFacts): boolean {
  return phase !== 'dropped' && requeued === 0 && !(keeps === 1 && phase === 'sealed')
}

/** Whether it came through: the run can go on from it, whatever happens now. */
export function cameThrough(facts: CheckpointFacts): boolean {
  return facts.phase === 'sealed' && !isOpen(facts)
}

/** Whether the job's end was decided, and Slurm has not taken the job back yet. */
export function awaitsRequeue({ phase, decision, keep_running: keeps, requeued }: CheckpointFacts): boolean {
  return phase === 'sealed' && decision === 'commit' && keeps === 0 && requeued === 0
}

/** In one word, for people: `stint status`, the REST API. */
export function stateOf({ phase, decision, keep_running: keeps, requeued }: CheckpointFacts): 'dumping' | 'prepared' | 'sealed' | 'committed' | 'requeued' | 'aborted' {
  if (phase === 'dropped') return 'aborted'
  if (requeued === 1) return 'requeued'
  if (phase === 'sealed' && keeps === 1) return 'sealed'
  if (decision === 'commit') return 'committed'
  return phase === 'writing' ? 'dumping' : phase === 'written' ? 'prepared' : 'sealed'
}
