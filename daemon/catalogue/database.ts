import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import Database from 'better-sqlite3'
import { StintError, asStintError, isStintError } from '../core/errors.ts'

export type Connection = Database.Database

interface Migration {
  readonly number: number
  readonly name: string
  readonly sql: string
  readonly checksum: string
}

/** Migrations of a directory in order: `0001_name.sql`, without gaps. */
export function readMigrations(directory: string): Migration[] {
  const names = readdirSync(directory).filter((name) => /^\d{4}_.+\.sql$/.test(name)).toSorted()
  return names.map((name, index) => {
    if (Number(name.slice(0, 4)) !== index + 1) throw new StintError('E_INTERNAL', `migration ${name} is out of order`)
    const sql = readFileSync(join(directory, name), 'utf8')
    return { number: index + 1, name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
  })
}

/**
 * Brings a database to the newest schema, forward only.
 * @throws StintError E_CATALOGUE when an applied migration was changed since, or the database is newer than this program
 */
export function migrate(db: Connection, migrations: readonly Migration[]): void {
  db.exec('CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT')
  const applied = db.prepare<[], { number: number; name: string; checksum: string }>('SELECT * FROM migrations ORDER BY number').all()
  for (const row of applied) {
    const known = migrations.find((m) => m.number === row.number)
    if (known === undefined) throw new StintError('E_CATALOGUE', `the catalogue has migration ${row.name}, which this stintd does not know`, { hint: 'Install the newer stintd again.' })
    if (known.checksum !== row.checksum) throw new StintError('E_CATALOGUE', `migration ${row.name} was changed after it was applied`)
  }
  for (const migration of migrations.slice(applied.length)) {
    db.transaction(() => {
      db.exec(migration.sql)
      db.prepare('INSERT INTO migrations VALUES (?, ?, ?)').run(migration.number, migration.name, migration.checksum)
    }).immediate()
  }
}

/**
 * Opens the catalogue of this node; root only, one writer, every commit durable.
 * @throws StintError E_CATALOGUE when it is damaged, newer than this program, or cannot be opened
 */
export function openDatabase(path: string, migrationsDirectory: string): Connection {
  let db: Connection | undefined
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    db = new Database(path)
    chmodSync(path, 0o600)
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    db.pragma('busy_timeout = 5000')
    migrate(db, readMigrations(migrationsDirectory))
    return db
  } catch (error) {
    db?.close()
    throw isStintError(error) ? error : new StintError('E_CATALOGUE', `${path} cannot be used: ${asStintError(error).message}`, { cause: error })
  }
}
