import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { newKey } from '../../daemon/key-file.ts'
import { PosixStore } from '../../plugins/stores/posix/store.ts'
import { manifest } from '../support/context.ts'

/**
 * What a store key costs: an image of MEGABYTES is sealed and verified with and without one, in turns; medians over ROUNDS, seconds.
 * node tests/bench/mac-cost.ts DIRECTORY [MEGABYTES] [ROUNDS]
 */
const [directory = '', megabytes = '256', rounds = '7'] = process.argv.slice(2)
const bytes = randomFillSync(Buffer.alloc(Number(megabytes) * 2 ** 20))
const key = newKey('seal')

async function round(path: string, keyed: boolean): Promise<{ seal: number; verify: number }> {
  const store = new PosixStore(path, 0, 'n1', () => (keyed ? [key] : []))
  const draftKey = { ...manifest, coordinator: 'n1' }
  await using draft = store.begin(draftKey, false)
  mkdirSync(join(draft.directory, 'criu'))
  writeFileSync(join(draft.directory, 'criu/pages-1.img'), bytes)
  const began = performance.now()
  draft.seal({ ...manifest, files: await draft.finish() })
  const sealed = performance.now()
  store.publish(draftKey)
  const image = store.find(manifest)
  if (image === undefined) throw new Error('not sealed')
  const found = performance.now()
  await store.verify(image)
  return { seal: (sealed - began) / 1000, verify: (performance.now() - found) / 1000 }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
const taken = { true: [] as { seal: number; verify: number }[], false: [] as { seal: number; verify: number }[] }
for (let n = 0; n < Number(rounds); n++) {
  for (const keyed of n % 2 === 0 ? [true, false] : [false, true]) {
    const path = mkdtempSync(join(directory, 'mac-cost-'))
    try {
      taken[`${keyed}`].push(await round(path, keyed))
    } finally {
      rmSync(path, { recursive: true })
    }
  }
}
for (const what of ['seal', 'verify'] as const) {
  const [withKey, without] = [median(taken.true.map((one) => one[what])), median(taken.false.map((one) => one[what]))]
  console.log(`${what}: ${withKey.toFixed(3)} s with a key, ${without.toFixed(3)} s without, ratio ${(withKey / without).toFixed(2)}`)
}
