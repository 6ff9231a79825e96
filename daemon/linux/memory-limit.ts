import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { CgroupPlace } from './cgroups.ts'
import { systemCode } from '../core/errors.ts'

/** What a job's memory cgroups allow and hold, cgroup v1 and v2: https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html */

/** v1 writes the largest number of pages for "none". */
const none = 2 ** 60

/** Undefined where there is no such file, or it has no number (`max`). */
function numberIn(directory: string, name: string): number | undefined {
  try {
    const value = Number(readFileSync(join(directory, name), 'utf8').trim())
    return Number.isFinite(value) && value < none ? value : undefined
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ENODEV', 'EOPNOTSUPP'].includes(systemCode(error) ?? '')) return undefined
    throw error
  }
}

/** The directory of a process's memory cgroup and those above it, the lowest first. */
function memoryDirectories(places: readonly CgroupPlace[]): string[] {
  const place = places.find((p) => p.controllers.includes('memory')) ?? places.find((p) => p.controllers.length === 0)
  const directories: string[] = []
  for (let at = place?.directory; at !== undefined && at !== '/' && at !== '.'; at = dirname(at)) directories.push(at)
  return directories
}

function least(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined)
  return known.length === 0 ? undefined : Math.min(...known)
}

/**
 * Bytes of memory, and of memory and swap together, that the processes of these cgroups may have now; undefined without a limit.
 * @param swapBytes that the node has
 */
export function memoryLimit(places: readonly CgroupPlace[], swapBytes: number): { readonly memory: number | undefined; readonly withSwap: number | undefined } {
  const directories = memoryDirectories(places)
  const memory = least(directories.flatMap((at) => [numberIn(at, 'memory.max'), numberIn(at, 'memory.limit_in_bytes')]))
  if (memory === undefined) return { memory, withSwap: undefined }
  const swap = Math.min(swapBytes, least(directories.map((at) => numberIn(at, 'memory.swap.max'))) ?? swapBytes)
  return { memory, withSwap: least([memory + swap, ...directories.map((at) => numberIn(at, 'memory.memsw.limit_in_bytes'))]) }
}

/** Bytes that the processes of these cgroups hold and the kernel cannot drop: anonymous and shared memory, swapped out or not; undefined where nothing counts them. */
export function memoryInUse(places: readonly CgroupPlace[]): number | undefined {
  for (const directory of memoryDirectories(places)) {
    let text: string
    try {
      text = readFileSync(join(directory, 'memory.stat'), 'utf8')
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
      continue
    }
    const fields = new Map([...text.matchAll(/^(\w+) (\d+)$/gm)].map(([, key = '', value]) => [key, Number(value)]))
    // v1 counts a cgroup and those below it together as total_*; v2 always does, and swap in a file of its own.
    const [anonymous, shared] = fields.has('total_rss') ? [fields.get('total_rss'), fields.get('total_shmem')] : [fields.get('anon'), fields.get('shmem')]
    if (anonymous !== undefined) return anonymous + (shared ?? 0) + (fields.get('total_swap') ?? numberIn(directory, 'memory.swap.current') ?? 0)
  }
  return undefined
}

/** Swap that this node has, bytes. */
export function nodeSwapBytes(): number {
  return Number(/^SwapTotal:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024
}
