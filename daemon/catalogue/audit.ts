import type { Connection } from './database.ts'

/** By which way an order came. */
export type AuditChannel = 'socket' | 'peer' | 'signal' | 'daemon'
export type AuditAction = 'save' | 'restore' | 'reclaim' | 'remove' | 'cancel' | 'drain' | 'adopt'

export interface AuditEntry {
  /** Milliseconds since 1970. */
  readonly at: number
  /** Null where Slurm or the daemon itself gave the order. */
  readonly uid: number | null
  /** Null as above, and where another node's daemon passed the order on. */
  readonly pid: number | null
  readonly channel: AuditChannel
  readonly action: AuditAction
  /** Null of a whole node. */
  readonly job: number | null
  readonly run: string | null
  /** Whose job it is. */
  readonly owner: number | null
  readonly user: string | null
  readonly checkpoint: number | null
  /** SHA-256 of the manifest of member 0. */
  readonly image: string | null
  /** `done`, or the code of an error. */
  readonly outcome: string
  readonly detail: Readonly<Record<string, unknown>>
}

export interface AuditFilter {
  /** What this user asked for, or had done to jobs of theirs; undefined: everything. */
  readonly visibleTo: number | undefined
  readonly job?: number | undefined
  /** Milliseconds since 1970. */
  readonly since?: number | undefined
  /** Login name of the job's owner. */
  readonly user?: string | undefined
}

/** Most rows that are listed. */
const mostRows = 1000
const dayMilliseconds = 86_400_000

/** Append only: the database itself refuses to change a row, and to delete one before its time (migrations/0005_audit.sql). */
export class Audit {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  add(entry: AuditEntry): void {
    this.#db.prepare(`INSERT INTO audit (at, uid, pid, channel, action, job, run, owner, user, checkpoint, image, outcome, detail)
      VALUES (@at, @uid, @pid, @channel, @action, @job, @run, @owner, @user, @checkpoint, @image, @outcome, @detail)`).run({ ...entry, detail: JSON.stringify(entry.detail) })
  }

  /** Newest first, the last thousand. */
  list({ visibleTo, job, since, user }: AuditFilter): AuditEntry[] {
    return this.#db
      .prepare<Record<string, unknown>, Omit<AuditEntry, 'detail'> & { detail: string }>(
        `SELECT at, uid, pid, channel, action, job, run, owner, user, checkpoint, image, outcome, detail FROM audit
         WHERE (@visibleTo IS NULL OR uid = @visibleTo OR owner = @visibleTo) AND (@job IS NULL OR job = @job) AND (@since IS NULL OR at >= @since) AND (@user IS NULL OR user = @user)
         ORDER BY id DESC LIMIT ${mostRows}`,
      )
      .all({ visibleTo: visibleTo ?? null, job: job ?? null, since: since ?? null, user: user ?? null })
      .map((row) => ({ ...row, detail: JSON.parse(row.detail) as Record<string, unknown> }))
  }

  /** Drops what is older. @param keepDays from now on nothing younger can be deleted */
  prune(keepDays: number): void {
    this.#db.prepare('UPDATE audit_retention SET keep_days = ?').run(keepDays)
    this.#db.prepare('DELETE FROM audit WHERE at < unixepoch() * 1000 - ?').run(keepDays * dayMilliseconds)
  }
}
