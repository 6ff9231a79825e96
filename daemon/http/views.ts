import type { Context, Sandbox } from '../context.ts'
import type { Run } from '../catalogue/runs.ts'
import type { StoredImage, UnreadableImage } from '../../plugins/stores/store.ts'
import { stateOf } from '../core/checkpoint-state.ts'
import type { StintRecord } from '../core/manifest.ts'
import type { CheckpointView, ImageView, RunView } from './schemas.ts'

/** What a run is doing, in one word for people. */
function runState(context: Context, run: Run): { state: string; node: string | null; nodes: string[]; restarts: number; endTime: number | null } {
  const newest = context.catalogue.members.ofRun(run.id).at(-1)
  if (newest === undefined) return { state: 'unknown', node: null, nodes: [], restarts: 0, endTime: null }
  const live = newest.state !== 'ended'
  const state = live ? newest.state : run.ended_at === null ? 'elsewhere' : 'ended'
  return { state, node: live ? newest.node : null, nodes: JSON.parse(newest.nodes) as string[], restarts: newest.restarts, endTime: live ? newest.end_time : null }
}

/** Of all members; null while nothing is sealed. */
function sizeOf(context: Context, checkpoint: number): number | null {
  const images = context.catalogue.images.ofCheckpoint(checkpoint)
  return images.length === 0 ? null : images.reduce((sum, image) => sum + image.bytes, 0)
}

export function checkpointViews(context: Context, runId: string): CheckpointView[] {
  return context.catalogue.checkpoints.ofRun(runId).map((row) => ({
    number: row.number,
    trigger: row.trigger,
    keepRunning: row.keep_running === 1,
    state: stateOf(row),
    startedAt: row.started_at,
    frozenMs: row.frozen_ms,
    seconds: row.seconds,
    bytes: sizeOf(context, row.id),
    error: row.error,
  }))
}

/** Why it will be saved when it will be. */
function planView(context: Context, sandbox: Sandbox | undefined): RunView['plan'] {
  if (sandbox?.plan === undefined) return null
  const { prediction, besideSeconds } = sandbox.plan
  const { safety, margin_seconds: marginSeconds } = context.config.deadline
  return { ...prediction, besideSeconds, safety, marginSeconds }
}

export function runView(context: Context, run: Run): RunView {
  const { state, node, nodes, restarts, endTime } = runState(context, run)
  const sandbox = context.sandboxes.get(run.job_id)
  return {
    job: run.job_id, run: run.id, user: run.user, node, nodes, state, restarts, startedAt: run.created_at, endedAt: run.ended_at, waitStatus: run.wait_status,
    walltimeEndsAt: endTime, savedAt: sandbox?.plannedAt ?? null, plan: planView(context, sandbox), periodicAt: sandbox?.periodic?.due ?? null, error: run.error,
    stints: JSON.parse(run.history) as StintRecord[], checkpoints: checkpointViews(context, run.id), events: context.catalogue.events.ofRun(run.id),
  }
}

/** One sealed checkpoint by the images of its members, member 0 first. */
export function imageView(images: readonly [StoredImage, ...StoredImage[]]): ImageView {
  const [{ directory, manifest, keyId }] = images
  const { job, user, checkpoint, trigger, node, createdAt, seconds, members } = manifest
  const bytes = images.reduce((sum, image) => sum + image.manifest.bytes, 0)
  return { job, state: 'sealed', key: keyId ?? null, user, checkpoint, trigger, node, members: members.length, createdAt, bytes, seconds, directory, error: null }
}

/** One that must not be used: nothing that is written in it counts. */
export function unreadableView({ job, checkpoint, directory, error }: UnreadableImage, { bytes, writtenAt }: { bytes: number; writtenAt: number }): ImageView {
  const state = error.code === 'E_IMAGE_FORGED' ? 'forged' : 'damaged'
  return { job, state, key: null, user: null, checkpoint, trigger: null, node: null, members: null, createdAt: writtenAt, bytes, seconds: null, directory, error: error.message }
}
