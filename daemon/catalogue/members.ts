import { assertMove, memberMoves, type MemberState } from '../core/states.ts'
import type { Connection } from './database.ts'

export interface Member {
  readonly id: number
  readonly run_id: string
  readonly member: number
  readonly restarts: number
  readonly node: string
  readonly state: MemberState
  readonly guard_pid: number
  readonly guard_start: number
  /** The boot these processes were of (linux/held-process.ts, bootId). */
  readonly boot: string
  readonly pid1: number | null
  readonly pid1_start: number | null
  readonly payload_cgroup: string
  /** Milliseconds since 1970; null when the job has no limit. */
  readonly end_time: number | null
  /** Checkpoint number this stint continues from; null for a first start. */
  readonly restore_from: number | null
  readonly opened_at: number
  readonly ended_at: number | null
  /** JSON: nodes of this stint, by member. */
  readonly nodes: string
  /** The node whose daemon decides for the run; null where this one does. */
  readonly coordinator: string | null
  /** JSON: the run's other members that are open or being opened, as `OtherMember`s. */
  readonly others: string
  /** 1: a restore of several members was decided, all of them run on. */
  readonly resume_decided: 0 | 1
}

/** Another member of a run, as its coordinator started it. */
export interface OtherMember {
  readonly member: number
  readonly node: string
  readonly srunPid: number
  readonly srunStart: number
  /** Nobody has heard yet that its sandbox stands; srun may not have been started. */
  readonly opening?: true
}

export type NewMember = Omit<Member, 'id' | 'pid1' | 'pid1_start' | 'ended_at' | 'others' | 'resume_decided'>

export class Members {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  insert(member: NewMember): Member {
    const { lastInsertRowid } = this.#db
      .prepare(
        `INSERT INTO members (run_id, member, restarts, node, state, guard_pid, guard_start, boot, payload_cgroup, end_time, restore_from, opened_at, nodes, coordinator)
         VALUES (@run_id, @member, @restarts, @node, @state, @guard_pid, @guard_start, @boot, @payload_cgroup, @end_time, @restore_from, @opened_at, @nodes, @coordinator)`,
      )
      .run(member)
    return this.require(Number(lastInsertRowid))
  }

  require(id: number): Member {
    const row = this.#db.prepare<[number], Member>('SELECT * FROM members WHERE id = ?').get(id)
    if (row === undefined) throw new Error(`member ${id} is not in the catalogue`)
    return row
  }

  alive(): Member[] {
    return this.#db.prepare<[], Member>("SELECT * FROM members WHERE state <> 'ended' ORDER BY id").all()
  }

  /** Processes of an earlier boot have ended, whoever has their numbers now, and their start times: nothing is that old. */
  endEarlierBoots(boot: string): void {
    this.#db.prepare("UPDATE members SET guard_start = -1, pid1_start = -1 WHERE state <> 'ended' AND boot NOT IN ('', ?)").run(boot)
  }

  ofRun(runId: string): Member[] {
    return this.#db.prepare<[string], Member>('SELECT * FROM members WHERE run_id = ? ORDER BY id').all(runId)
  }

  setPid1(id: number, pid: number, startTime: number): void {
    this.#db.prepare('UPDATE members SET pid1 = ?, pid1_start = ? WHERE id = ?').run(pid, startTime, id)
  }

  setEndTime(id: number, endTime: number | null): void {
    this.#db.prepare('UPDATE members SET end_time = ? WHERE id = ?').run(endTime, id)
  }

  setRestoreFrom(id: number, checkpoint: number): void {
    this.#db.prepare('UPDATE members SET restore_from = ? WHERE id = ?').run(checkpoint, id)
  }

  setOthers(id: number, others: readonly OtherMember[]): void {
    this.#db.prepare('UPDATE members SET others = ? WHERE id = ?').run(JSON.stringify(others), id)
  }

  setResumeDecided(id: number, decided: boolean): void {
    this.#db.prepare('UPDATE members SET resume_decided = ? WHERE id = ?').run(decided ? 1 : 0, id)
  }

  /** Compare and set; a move to the state it has is no move. @throws StintError E_INTERNAL for an illegal one */
  move(id: number, to: MemberState, at: number): void {
    const { state } = this.require(id)
    if (state === to) return
    assertMove<MemberState>(memberMoves, state, to)
    this.#db
      .prepare("UPDATE members SET state = @to, ended_at = CASE WHEN @to = 'ended' THEN @at ELSE ended_at END WHERE id = @id AND state = @state")
      .run({ id, to, at, state })
  }
}
