import type { EngineProcess, Machine } from './machine.ts'
import type { World } from './world.ts'

/**
 * What must hold whatever happens, looked at when anything changes:
 *
 * - never two payloads of one run alive, and none ended but for a checkpoint that is whole in the store and decided;
 * - nobody is told a word that is not on record;
 * - a checkpoint that can be restored is one cut: no member's gate opened before all were frozen;
 * - nothing runs, and no gate opens, before all are restored;
 * - the job goes back into the queue only for such a checkpoint, and is never taken for finished instead.
 */
export class Rules {
  readonly #world: World
  /** Members frozen for a checkpoint. */
  readonly #frozen = new Map<number, Set<number>>()
  /** Checkpoints of which a member's gate has opened before anything was decided. Behind a shut gate an engine that was left alone may let it run. */
  readonly #torn = new Set<number>()
  /** A dump has ended member 0's payload: the run lives in this checkpoint. */
  savedAs: number | undefined

  constructor(world: World) {
    this.#world = world
  }

  #isDecided(checkpoint: number): boolean {
    return this.#world.rows().some(({ number, decision }) => number === checkpoint && decision === 'commit')
  }

  #violate(text: string): void {
    this.#world.sim.violate(text)
  }

  dumped({ node, member, gate }: Machine, checkpoint: number): void {
    if (gate === 'open') this.#violate(`${node} was dumped with its gate open`)
    this.#frozen.set(checkpoint, (this.#frozen.get(checkpoint) ?? new Set()).add(member))
  }

  told({ node }: Machine, { operation, checkpoint }: EngineProcess, word: 'commit' | 'abort'): void {
    if (word === 'abort') return
    if (operation === 'dump' && !this.#isDecided(checkpoint)) this.#violate(`${node} was told to commit checkpoint ${checkpoint}, which is not decided on record`)
    if (operation === 'restore' && !this.#world.isResumeDecided()) this.#violate(`${node} was told to resume, which is not decided on record`)
  }

  restoreStarts({ node, payload, engine }: Machine): void {
    if (payload !== 'none') this.#violate(`${node}: a second payload is restored beside one that is ${payload}`)
    if (engine !== undefined && engine.state !== 'ended') this.#violate(`${node}: a second engine is started`)
  }

  payloadChanged({ node, payload, engine }: Machine, why: string): void {
    const { machines, store } = this.#world
    const checkpoint = engine?.checkpoint ?? 0
    if (payload === 'none' && why === 'dumped') {
      if (!store.isWhole(checkpoint, machines.length) || !this.#isDecided(checkpoint)) this.#violate(`${node}: the payload was ended by checkpoint ${checkpoint}, which is not whole in the store and decided`)
      this.savedAs = checkpoint
    }
    if (payload !== 'running') return
    if (engine?.operation === 'restore') {
      const absent = machines.filter((other) => other.payload !== 'restored' && other.payload !== 'running')
      if (absent.length > 0) this.#violate(`${node} runs before ${absent.map((other) => other.node).join(', ')} is restored`)
    } else if (this.#isDecided(checkpoint)) {
      if (this.#frozen.get(checkpoint)?.size !== machines.length) this.#violate(`${node} runs on before all were frozen for checkpoint ${checkpoint}`)
    }
  }

  gateChanged({ node, gate, payload }: Machine): void {
    if (gate === 'shut') return
    if (payload === 'frozen' || payload === 'restored') this.#violate(`${node}: its gate opens while the payload is ${payload}`)
    for (const { number, decision, phase } of this.#world.rows()) if (decision === 'none' && phase !== 'dropped') this.#tear(number)
  }

  /** One that has been published was whole, and all were frozen: it stays a cut until it is removed. */
  #tear(checkpoint: number): void {
    if (!this.#world.store.published.has(checkpoint)) this.#torn.add(checkpoint)
  }

  published(checkpoint: number): void {
    if (this.#torn.has(checkpoint)) this.#violate(`checkpoint ${checkpoint} was published, and is no cut`)
    if (!this.#world.store.isWhole(checkpoint, this.#world.machines.length)) this.#violate(`checkpoint ${checkpoint} was published, and is not whole`)
  }

  removed(checkpoint: number): void {
    if (this.savedAs === checkpoint && this.#world.slurm.state !== 'CANCELLED' && !this.#world.isRestoring) this.#violate(`checkpoint ${checkpoint}, in which the run lives, was removed`)
  }

  requeued(by: string, isHeld: boolean): void {
    const { machines, store, isRestoring } = this.#world
    const running = machines.filter(({ payload }) => payload === 'running')
    if (running.length > 0 && this.savedAs === undefined && !isRestoring) this.#violate(`${by} puts the job back while ${running.map(({ node }) => node).join(', ')} runs`)
    if (isRestoring || isHeld) return
    if (this.savedAs === undefined || !store.isWhole(this.savedAs, machines.length)) this.#violate(`${by} puts the job back without a checkpoint`)
  }

  completed(): void {
    if (this.savedAs !== undefined || this.#world.isRestoring) this.#violate('the job is taken for finished, and was saved')
  }
}
