import { assertCommit, assertPhase, assertRequeued, givenUp, type CheckpointFacts, type Phase } from '../core/checkpoint-state.ts'
import type { Trigger } from '../core/states.ts'
import type { Connection } from './database.ts'

export interface Checkpoint extends CheckpointFacts {
  readonly id: number
  readonly run_id: string
  readonly number: number
  readonly trigger: Trigger
  readonly engine_pid: number | null
  readonly engine_start: number | null
  readonly started_at: number
  /** From the first frozen task to its end or resumption, milliseconds. */
  readonly frozen_ms: number | null
  /** From the trigger to the seal. */
  readonly seconds: number | null
  readonly error_code: string | null
  readonly error: string | null
}

export class Checkpoints {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  begin(runId: string, number: number, trigger: Trigger, keepRunning: boolean, at: number): Checkpoint {
    const { lastInsertRowid } = this.#db
      .prepare("INSERT INTO checkpoints (run_id, number, trigger, keep_running, started_at) VALUES (?, ?, ?, ?, ?)")
      .run(runId, number, trigger, keepRunning ? 1 : 0, at)
    return this.require(Number(lastInsertRowid))
  }

  require(id: number): Checkpoint {
    const row = this.#db.prepare<[number], Checkpoint>('SELECT * FROM checkpoints WHERE id = ?').get(id)
    if (row === undefined) throw new Error(`checkpoint ${id} is not in the catalogue`)
    return row
  }

  ofRun(runId: string): Checkpoint[] {
    return this.#db.prepare<[string], Checkpoint>('SELECT * FROM checkpoints WHERE run_id = ? ORDER BY number').all(runId)
  }

  highestNumber(runId: string): number {
    return this.#db.prepare<[string], { n: number | null }>('SELECT max(number) AS n FROM checkpoints WHERE run_id = ?').get(runId)?.n ?? 0
  }

  setEngine(id: number, pid: number, startTime: number): void {
    this.#db.prepare('UPDATE checkpoints SET engine_pid = ?, engine_start = ? WHERE id = ?').run(pid, startTime, id)
  }

  setTimes(id: number, times: { frozenMs?: number; seconds?: number }): void {
    this.#db
      .prepare('UPDATE checkpoints SET frozen_ms = coalesce(?, frozen_ms), seconds = coalesce(?, seconds) WHERE id = ?')
      .run(times.frozenMs ?? null, times.seconds ?? null, id)
  }

  /** Its image is more durable now. @throws StintError E_INTERNAL when that cannot be next */
  reach(id: number, phase: Exclude<Phase, 'dropped'>): void {
    assertPhase(this.require(id), phase)
    this.#db.prepare('UPDATE checkpoints SET phase = ? WHERE id = ?').run(phase, id)
  }

  /** The decision, before anybody is told. @throws StintError E_INTERNAL while the image is not durable enough for it */
  commit(id: number): void {
    assertCommit(this.require(id))
    this.#db.prepare("UPDATE checkpoints SET decision = 'commit' WHERE id = ?").run(id)
  }

  /** Slurm has taken the job back. @throws StintError E_INTERNAL for a job that does not live in this image */
  setRequeued(id: number): void {
    assertRequeued(this.require(id))
    this.#db.prepare('UPDATE checkpoints SET requeued = 1 WHERE id = ?').run(id)
  }

  /** The image is of no use, and why. @throws StintError E_INTERNAL when the job was requeued for it, or it is given up already */
  giveUp(id: number, code: string, error: string): void {
    const decision = givenUp(this.require(id))
    this.#db.prepare("UPDATE checkpoints SET phase = 'dropped', decision = ?, error_code = ?, error = ? WHERE id = ?").run(decision, code, error, id)
  }
}
