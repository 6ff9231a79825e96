import { assumedSeconds, objectKinds, type Measurement, type Objects } from '../core/deadline.ts'
import type { Connection } from './database.ts'

export interface Image {
  readonly checkpoint_id: number
  readonly member: number
  readonly path: string
  readonly bytes: number
}

export class Images {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  put(image: Image): void {
    this.#db.prepare('INSERT OR REPLACE INTO images VALUES (@checkpoint_id, @member, @path, @bytes)').run(image)
  }

  ofCheckpoint(checkpointId: number): Image[] {
    return this.#db.prepare<[number], Image>('SELECT * FROM images WHERE checkpoint_id = ?').all(checkpointId)
  }
}

export interface EventRow {
  readonly at: number
  readonly kind: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** Of a text in an event so many characters are kept. */
const textLength = 4000

/** What happened to a run, for people: append only, but the oldest of very many go. */
export class Events {
  readonly #db: Connection
  readonly #perRun: number

  constructor(db: Connection, perRun: number) {
    this.#db = db
    this.#perRun = perRun
  }

  add(runId: string, at: number, kind: string, detail: Readonly<Record<string, unknown>>): void {
    this.#db.prepare('INSERT INTO events (run_id, at, kind, detail) VALUES (?, ?, ?, ?)').run(runId, at, kind, JSON.stringify(detail, (_, value: unknown) => (typeof value === 'string' ? value.slice(0, textLength) : value)))
    this.#db.prepare('DELETE FROM events WHERE run_id = @runId AND id <= (SELECT id FROM events WHERE run_id = @runId ORDER BY id DESC LIMIT 1 OFFSET @perRun)').run({ runId, perRun: this.#perRun })
  }

  ofRun(runId: string): EventRow[] {
    return this.#db
      .prepare<[string], { at: number; kind: string; detail: string }>('SELECT at, kind, detail FROM events WHERE run_id = ? ORDER BY id')
      .all(runId)
      .map((row) => ({ ...row, detail: JSON.parse(row.detail) as Record<string, unknown> }))
  }
}

/** What saving took on this node, per store. */
export class Throughput {
  readonly #db: Connection

  constructor(db: Connection) {
    this.#db = db
  }

  record(store: string, at: number, bytes: number, ms: number, objects: Objects): void {
    if (ms <= 0) return
    const columns = ['store', 'at', 'bytes', 'ms', ...objectKinds]
    this.#db.prepare(`INSERT INTO throughput (${columns.join(', ')}) VALUES (${columns.map((name) => `@${name}`).join(', ')})`)
      .run({ store, at, bytes, ms: Math.round(ms), ...objects })
  }

  /** The last 40, newest first. */
  recent(store: string): Measurement[] {
    return this.#db
      .prepare<[string], { bytes: number; ms: number } & Objects>(`SELECT bytes, ms, ${objectKinds.join(', ')} FROM throughput WHERE store = ? ORDER BY id DESC LIMIT 40`)
      .all(store)
      .map(({ bytes, ms, ...objects }) => ({ bytes, seconds: ms / 1000, objectSeconds: assumedSeconds(objects) }))
  }
}
