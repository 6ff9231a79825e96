import type { Connection } from './database.ts'

export interface Run {
  readonly id: string
  readonly job_id: number
  readonly uid: number
  readonly gid: number
  readonly user: string
  readonly options: string
  readonly hostname: string
  readonly address: string
  readonly script: string
  /** JSON: output files of this stint that are not opened for appending. */
  readonly outputs: string
  /** JSON: earlier stints, as in the manifest. */
  readonly history: string
  readonly created_at: number
  /** JSON: host names for life, by member. */
  readonly hosts: string
  /** JSON: VXLAN id and address prefix; null for a run on one node. */
  readonly network: string | null
  /** JSON: the launch book. */
  readonly launches: string
  readonly ended_at: number | null
  readonly wait_status: number | null
  readonly error_code: string | null
  readonly error: string | null
}

export type NewRun = Omit<Run, 'ended_at' | 'wait_status' | 'error_code' | 'error'>

export class Runs {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  /** Inserts a run, or takes over what another node recorded of it: this node may have another member of it than before. */
  upsert(run: NewRun): void {
    this.#db
      .prepare(
        `INSERT INTO runs (id, job_id, uid, gid, user, options, hostname, address, script, outputs, history, created_at, hosts, network, launches)
         VALUES (@id, @job_id, @uid, @gid, @user, @options, @hostname, @address, @script, @outputs, @history, @created_at, @hosts, @network, @launches)
         ON CONFLICT (id) DO UPDATE SET job_id = excluded.job_id, hostname = excluded.hostname, address = excluded.address, script = excluded.script, outputs = excluded.outputs,
           history = excluded.history, launches = excluded.launches, ended_at = NULL, wait_status = NULL`,
      )
      .run(run)
  }

  get(id: string): Run | undefined {
    return this.#db.prepare<[string], Run>('SELECT * FROM runs WHERE id = ?').get(id)
  }

  newestOfJob(jobId: number): Run | undefined {
    return this.#db.prepare<[number], Run>('SELECT * FROM runs WHERE job_id = ? ORDER BY created_at DESC LIMIT 1').get(jobId)
  }

  /** Newest first; of one user, or of all when `uid` is undefined. */
  list(uid: number | undefined, limit = 200): Run[] {
    return this.#db
      .prepare<{ uid: number | null; limit: number }, Run>('SELECT * FROM runs WHERE @uid IS NULL OR uid = @uid ORDER BY created_at DESC LIMIT @limit')
      .all({ uid: uid ?? null, limit })
  }

  /** Runs that have not ended and have no sandbox on this node: they wait in the queue, go on elsewhere, or ended unseen. */
  withoutSandbox(): Run[] {
    return this.#db.prepare<[], Run>("SELECT * FROM runs WHERE ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM members WHERE run_id = runs.id AND state <> 'ended')").all()
  }

  setError(id: string, code: string | null, error: string | null): void {
    this.#db.prepare('UPDATE runs SET error_code = ?, error = ? WHERE id = ?').run(code, error, id)
  }

  setHistory(id: string, history: string): void {
    this.#db.prepare('UPDATE runs SET history = ? WHERE id = ?').run(history, id)
  }

  setLaunches(id: string, launches: string): void {
    this.#db.prepare('UPDATE runs SET launches = ? WHERE id = ?').run(launches, id)
  }

  launches(id: string): string {
    return this.#db.prepare<[string], { launches: string }>('SELECT launches FROM runs WHERE id = ?').get(id)?.launches ?? ''
  }

  end(id: string, at: number, waitStatus: number | null): void {
    this.#db.prepare('UPDATE runs SET ended_at = ?, wait_status = ? WHERE id = ?').run(at, waitStatus, id)
  }
}
