import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryInUse, memoryLimit } from '../../daemon/linux/memory-limit.ts'

let folder: string
beforeAll(() => { folder = mkdtempSync(join(tmpdir(), 'stint-memory-')) })
afterAll(() => { rmSync(folder, { recursive: true }) })

const MB = 2 ** 20
let serial = 0

/** A step's cgroup below its job's, with these files. @returns its places under v1 or v2 */
function places(version: 1 | 2, step: Record<string, string>, job: Record<string, string> = {}): Parameters<typeof memoryLimit>[0] {
  const directory = join(folder, String(serial++), 'job_5', 'step_batch')
  mkdirSync(directory, { recursive: true })
  for (const [at, files] of [[directory, step], [join(directory, '..'), job]] as const) for (const [name, text] of Object.entries(files)) writeFileSync(join(at, name), text)
  return version === 1 ? [{ controllers: ['freezer'], directory: '/none' }, { controllers: ['memory'], directory }] : [{ controllers: [], directory }]
}

describe('the memory that a job may have', () => {
  test.each<[string, Parameters<typeof places>, number, [number | undefined, number | undefined]]>([
    ['v1: the least of step and job', [1, { 'memory.limit_in_bytes': `${800 * MB}\n` }, { 'memory.limit_in_bytes': `${500 * MB}\n` }], 0, [500 * MB, 500 * MB]],
    ['v1 without a limit', [1, { 'memory.limit_in_bytes': '9223372036854771712\n' }], 0, [undefined, undefined]],
    ['v1 with swap, limited together', [1, { 'memory.limit_in_bytes': `${500 * MB}`, 'memory.memsw.limit_in_bytes': `${600 * MB}` }], 4000 * MB, [500 * MB, 600 * MB]],
    ['v1 with swap that nothing limits', [1, { 'memory.limit_in_bytes': `${500 * MB}` }], 4000 * MB, [500 * MB, 4500 * MB]],
    ['v2', [2, { 'memory.max': 'max\n' }, { 'memory.max': `${500 * MB}\n`, 'memory.swap.max': '0\n' }], 4000 * MB, [500 * MB, 500 * MB]],
    ['v2 with swap', [2, { 'memory.max': `${500 * MB}\n`, 'memory.swap.max': 'max\n' }], 100 * MB, [500 * MB, 600 * MB]],
    ['no controller', [2, {}], 0, [undefined, undefined]],
  ])('%s', (_, made, swap, [memory, withSwap]) => {
    expect(memoryLimit(places(...made), swap)).toEqual({ memory, withSwap })
  })

  test('of a process in no cgroup is not limited', () => {
    expect(memoryLimit([], 0)).toEqual({ memory: undefined, withSwap: undefined })
  })
})

describe('the memory that a job holds', () => {
  test.each<[string, Parameters<typeof places>, number | undefined]>([
    ['v1: with all below, without caches', [1, { 'memory.stat': 'cache 9000\nrss 1\nshmem 2\ntotal_cache 9000\ntotal_rss 100\ntotal_shmem 20\ntotal_swap 3\n' }], 123],
    ['v2, with swap in a file of its own', [2, { 'memory.stat': 'anon 100\nfile 9000\nshmem 20\n', 'memory.swap.current': '3\n' }], 123],
    ['counted by the job only', [2, {}, { 'memory.stat': 'anon 7\nshmem 0\n' }], 7],
    ['nobody counts it', [2, {}], undefined],
    ['rubbish', [1, { 'memory.stat': '' }], undefined],
  ])('%s', (_, made, bytes) => {
    expect(memoryInUse(places(...made))).toBe(bytes)
  })
})
