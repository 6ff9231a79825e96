import { assertMove, checkpointMoves, type CheckpointState, type Trigger } from '../core/states.ts'
import type { Connection } from './database.ts'

export interface Checkpoint {
  readonly id: number
  readonly run_id: string
  readonly number: number
  readonly trigger: Trigger
  readonly keep_running: 0 | 1
  readonly state: CheckpointState
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
      .prepare("INSERT INTO checkpoints (run_id, number, trigger, keep_running, state, started_at) VALUES (?, ?, ?, ?, 'dumping', ?)")
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

  /** Compare and set. @throws StintError E_INTERNAL for an illegal move */
  move(id: number, to: CheckpointState): void {
    const { state } = this.require(id)
    assertMove<CheckpointState>(checkpointMoves, state, to)
    this.#db.prepare('UPDATE checkpoints SET state = ? WHERE id = ? AND state = ?').run(to, id, state)
  }

  abort(id: number, code: string, error: string): void {
    this.#db.transaction(() => {
      this.move(id, 'aborted')
      this.#db.prepare('UPDATE checkpoints SET error_code = ?, error = ? WHERE id = ?').run(code, error, id)
    })()
  }
}
