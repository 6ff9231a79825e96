import { Audit } from './audit.ts'
import { Checkpoints } from './checkpoints.ts'
import { openDatabase, type Connection } from './database.ts'
import { Members } from './members.ts'
import { Events, Images, Throughput } from './records.ts'
import { Runs } from './runs.ts'

/** This node's catalogue. Transactions are synchronous: no `await` inside. */
export class Catalogue implements Disposable {
  readonly runs: Runs
  readonly members: Members
  readonly checkpoints: Checkpoints
  readonly images: Images
  readonly events: Events
  readonly throughput: Throughput
  readonly audit: Audit
  readonly #db: Connection

  /** @param eventsPerRun older ones are forgotten */
  constructor(db: Connection, eventsPerRun = 1000) {
    this.#db = db
    this.runs = new Runs(this.#db)
    this.members = new Members(this.#db)
    this.checkpoints = new Checkpoints(this.#db)
    this.images = new Images(this.#db)
    this.events = new Events(this.#db, eventsPerRun)
    this.throughput = new Throughput(this.#db)
    this.audit = new Audit(this.#db)
  }

  /** The catalogue in a file. @throws StintError E_CATALOGUE */
  static open(path: string, migrationsDirectory: string, eventsPerRun?: number): Catalogue {
    return new Catalogue(openDatabase(path, migrationsDirectory), eventsPerRun)
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work).immediate()
  }

  /**
   * Writes what the crash of this daemon must leave, and that of the node need not: without waiting for the device. It is in the
   * kernel's memory at once, and on the device with the next commit of the other kind.
   */
  withoutFlush<T>(work: () => T): T {
    this.#db.pragma('synchronous = NORMAL')
    try {
      return work()
    } finally {
      this.#db.pragma('synchronous = FULL')
    }
  }

  [Symbol.dispose](): void {
    this.#db.close()
  }
}
