import koffi from 'koffi'

const RLIMIT_CORE = 4

/**
 * No core files of this daemon and of what it starts: they would hold what jobs have in memory. Only the soft limit: a restored job gets
 * back the limit that it had, which CRIU sets below the hard one.
 * @returns whether the kernel took it
 */
export function withoutCoreDumps(): boolean {
  const libc = koffi.load('libc.so.6')
  const getrlimit = libc.func('int getrlimit(int, _Out_ uint64_t *)') as unknown as (resource: number, limit: BigUint64Array) => number
  const setrlimit = libc.func('int setrlimit(int, const uint64_t *)') as unknown as (resource: number, limit: BigUint64Array) => number
  const limit = new BigUint64Array(2)
  if (getrlimit(RLIMIT_CORE, limit) !== 0) return false
  limit[0] = 0n
  return setrlimit(RLIMIT_CORE, limit) === 0
}
