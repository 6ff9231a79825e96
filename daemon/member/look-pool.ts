import { join } from 'node:path'
import type { Config } from '../core/config.ts'
import { asStintError } from '../core/errors.ts'
import { unfinishedLook, type LookAnswers, type LookFacts, type LookKind } from '../core/looks.ts'
import { HelperPool, helperLost } from '../linux/helper-pool.ts'
import type { Looked } from '../context.ts'
import type { HelperSetup, LookWork } from './look-helper.ts'

/** Of one helper: as much as the largest payload within checkpoint.look_limit takes, several times over; MiB. */
const helperMemoryMb = 512

/** A payload stands frozen until these are made. */
const urgent: ReadonlySet<LookKind> = new Set<LookKind>(['frozen', 'trees', 'rehearsal'])

/** Has looks made by helper processes, within checkpoint.look_seconds each. */
export class LookPool implements Disposable {
  readonly #pool: HelperPool
  readonly #config: Config

  constructor(config: Config, node: string) {
    this.#config = config
    this.#pool = new HelperPool({ program: join(import.meta.dirname, 'look-helper.ts'), size: config.checkpoint.look_helpers, memoryMb: helperMemoryMb, setup: { config, node } satisfies HelperSetup })
    this.#pool.warm()
  }

  get load(): HelperPool['load'] {
    return this.#pool.load
  }

  /** @throws StintError E_PREFLIGHT when there is too much to look at */
  async look<K extends LookKind>(kind: K, { pid1, run, options, hosts, network }: Looked, facts: LookFacts[K]): Promise<LookAnswers[K]> {
    const { look_seconds: lookSeconds, timeout_seconds: checkpointSeconds } = this.#config.checkpoint
    const seconds = kind === 'trees' ? checkpointSeconds : lookSeconds
    const work: LookWork<K> = { kind, sandbox: { pid1: { pid: pid1.pid, proc: pid1.proc }, run, options, hosts, network }, facts }
    try {
      return await this.#pool.run({ uid: run.uid, work, urgent: urgent.has(kind), seconds }) as LookAnswers[K]
    } catch (cause) {
      const how = asStintError(cause).details[helperLost]
      if (how === undefined) throw cause
      throw unfinishedLook(how === 'time' ? seconds : undefined)
    }
  }

  [Symbol.dispose](): void {
    this.#pool[Symbol.dispose]()
  }
}
