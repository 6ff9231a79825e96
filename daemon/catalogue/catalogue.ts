import { Checkpoints } from './checkpoints.ts'
import { openDatabase } from './database.ts'
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
  readonly #db: ReturnType<typeof openDatabase>

  constructor(path: string, migrationsDirectory: string) {
    this.#db = openDatabase(path, migrationsDirectory)
    this.runs = new Runs(this.#db)
    this.members = new Members(this.#db)
    this.checkpoints = new Checkpoints(this.#db)
    this.images = new Images(this.#db)
    this.events = new Events(this.#db)
    this.throughput = new Throughput(this.#db)
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work).immediate()
  }

  [Symbol.dispose](): void {
    this.#db.close()
  }
}
