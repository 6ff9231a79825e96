import { StintError } from '../../daemon/core/errors.ts'
import type { Manifest } from '../../daemon/core/manifest.ts'
import type { ImageStore, StoredImage } from '../../plugins/stores/store.ts'
import type { Daemon } from './daemon.ts'

interface Unfinished {
  readonly coordinator: string
  /** By member; undefined until it is sealed. */
  readonly parts: Map<number, Manifest | undefined>
}

/** The directory that all nodes share, for one run. */
export class Store {
  /** By number. */
  readonly unfinished = new Map<number, Unfinished>()
  readonly published = new Map<number, Map<number, Manifest | undefined>>()
  readonly attempts = new Map<number, number>()
  readonly moves = new Map<number, number>()
  /** Numbers whose content does not fit their checksums. */
  readonly damaged = new Set<number>()
  /** Something could not be removed, and is left. */
  isAway = false

  /** Whether a whole checkpoint can be restored. */
  isWhole(number: number, members: number): boolean {
    const parts = this.published.get(number)
    return parts?.size === members && [...parts.values()].every((manifest) => manifest !== undefined)
  }

  #images(): StoredImage[] {
    const whole = [...this.published].filter(([, parts]) => [...parts.values()].every((manifest) => manifest !== undefined)).toSorted(([a], [b]) => b - a)
    return whole.flatMap(([number, parts]) => [...parts].flatMap(([member, manifest]) => (manifest === undefined ? [] : [{ directory: `store/${number}/m${member}`, manifest }])))
  }

  remove(number: number): void {
    this.unfinished.delete(number)
    this.published.delete(number)
  }

  /** The store as one daemon sees it. */
  for(daemon: Daemon): ImageStore {
    const missing = (): StintError => new StintError('E_STORE_UNUSABLE', 'no such file or directory')
    return {
      name: 'posix', fingerprint: () => 'hash', assertUsable: () => Infinity,
      begin: ({ checkpoint, member, coordinator }) => {
        daemon.touch('store begin')
        const draft = this.unfinished.get(checkpoint) ?? { coordinator, parts: new Map<number, Manifest | undefined>() }
        this.unfinished.set(checkpoint, draft)
        draft.parts.set(member, undefined)
        return {
          directory: `store/${checkpoint}/m${member}`,
          finish: () => daemon.act('store finish', () => {
            if (this.unfinished.get(checkpoint) !== draft) throw missing()
            return [{ path: 'criu/core.img', bytes: 1, xxh3: '' }]
          }),
          seal: (manifest) => {
            daemon.touch('store seal')
            if (this.unfinished.get(checkpoint)?.parts.has(member) !== true) throw missing()
            draft.parts.set(member, manifest)
            return `store/${checkpoint}/m${member}`
          },
          [Symbol.asyncDispose]: () => daemon.act('store drop', () => {
            if (this.unfinished.get(checkpoint) !== draft) return
            draft.parts.delete(member)
            if (draft.parts.size === 0) this.unfinished.delete(checkpoint)
          }, (fault) => {
            if (fault === 'fail') this.isAway = true
            return false
          }),
        }
      },
      publish: ({ checkpoint }) => {
        daemon.touch('store publish')
        const draft = this.unfinished.get(checkpoint)
        if (draft === undefined && !this.published.has(checkpoint)) throw missing()
        if (draft === undefined) return
        this.unfinished.delete(checkpoint)
        this.published.set(checkpoint, draft.parts)
        daemon.world.rules.published(checkpoint)
      },
      list: () => this.#images(),
      find: ({ checkpoint, member }) => this.#images().find(({ manifest }) => manifest.checkpoint === checkpoint && manifest.member === member),
      unreadable: () => [], measure: () => ({ bytes: 0, writtenAt: 0 }),
      highestNumber: () => Math.max(0, ...this.published.keys()),
      verify: ({ manifest: { checkpoint } }) => daemon.act('store verify', () => {
        if (this.damaged.has(checkpoint)) throw new StintError('E_IMAGE_DAMAGED', 'checksum')
      }),
      adopt: () => Promise.resolve([]),
      remove: ({ checkpoint }) => {
        daemon.touch('store remove')
        daemon.world.rules.removed(checkpoint)
        this.remove(checkpoint)
      },
      removeRun: () => {
        daemon.touch('store removeRun')
        for (const number of [...this.published.keys()]) daemon.world.rules.removed(number)
        this.published.clear()
        this.unfinished.clear()
      },
      handOver: () => undefined, markFinished: () => undefined, finishedAt: () => undefined,
      count: ({ checkpoint }, what) => {
        daemon.touch(`store ${what}`)
        const counts = what === 'attempt' ? this.attempts : this.moves
        counts.set(checkpoint, (counts.get(checkpoint) ?? 0) + 1)
        return counts.get(checkpoint) ?? 0
      },
      counted: ({ checkpoint }, what) => (what === 'attempt' ? this.attempts : this.moves).get(checkpoint) ?? 0,
      clearAttempts: ({ checkpoint }) => {
        daemon.touch('store clearAttempts')
        this.attempts.delete(checkpoint)
        this.moves.delete(checkpoint)
      },
      unfinished: () => [], removeUnfinishedImage: () => undefined,
      takeWriterSlot: () => ({ [Symbol.dispose]: () => undefined }),
      removeUnfinished: () => {
        daemon.touch('store removeUnfinished')
        const mine = [...this.unfinished].filter(([, { coordinator }]) => coordinator === daemon.node)
        for (const [number] of mine) this.unfinished.delete(number)
        return mine.length
      },
    }
  }
}
