import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildCTargets, cTargets, fuzzC } from '../fuzz/c-targets.ts'
import { fuzz } from '../fuzz/check.ts'
import { fuzzRest } from '../fuzz/check-rest.ts'
import { targets } from '../fuzz/targets.ts'

/** A short run of every fuzzer; `npm run fuzz` makes a long one. STINT_FUZZ_SEED plays one again. */

const seed = Number(process.env['STINT_FUZZ_SEED'] ?? Date.now() % 2 ** 31)
/** Each takes a second or two; a machine that has other work for its processors may need much longer, milliseconds. */
const patience = 180_000
const directory = mkdtempSync(join(tmpdir(), 'stint-fuzz-'))
beforeAll(() => { console.log(`STINT_FUZZ_SEED=${seed}`) })
afterAll(() => { rmSync(directory, { recursive: true }) })

describe('no input does harm to', () => {
  test.each(targets.map((one) => [one.name, one] as const))('%s', (_, one) => {
    expect(fuzz(one, { runs: 400, seed }).failure).toBeUndefined()
  }, patience)

  test('the REST API', async () => {
    expect((await fuzzRest({ runs: 300, seed })).failure).toBeUndefined()
  }, patience)

  test('the C', async () => {
    await buildCTargets(directory, 'gcc')
    for (const name of cTargets) expect([name, (await fuzzC(directory, name, false, { runs: 1000, seed })).failure]).toEqual([name, undefined])
  }, patience)
})
