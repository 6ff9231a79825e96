import { StintError } from './errors.ts'

/** Members that share one run's block of virtual addresses: the low bits of an address. */
const memberBits = 6

export function parseIpv4(text: string): number {
  const parts = text.split('.').map(Number)
  if (parts.length !== 4 || parts.some((p) => !Number.isInteger(p) || p < 0 || p > 255)) throw new StintError('E_BAD_CONFIG', `"${text}" is no IPv4 address`)
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}

/**
 * The virtual address of a run's member 0: a block of 2^6 addresses out of `pool` (such as 100.64.0.0/10), chosen by the
 * job id so that it is stable everywhere, moved on while another sandbox on this node has it.
 * @throws StintError E_BAD_CONFIG when the pool is too small, E_BUSY when it is used up
 */
export function allotAddress(pool: string, jobId: number, taken: ReadonlySet<string>): string {
  const [base = '', prefix = ''] = pool.split('/')
  const bits = 32 - Number(prefix)
  if (!Number.isInteger(bits) || bits <= memberBits || bits > 24) throw new StintError('E_BAD_CONFIG', `network.pool "${pool}" must be a prefix from /8 to /25`)
  const blocks = 2 ** (bits - memberBits)
  for (let tried = 0; tried < blocks; tried++) {
    const block = (jobId + tried) % blocks
    const address = formatIpv4(parseIpv4(base) + block * 2 ** memberBits + 1)
    if (!taken.has(address)) return address
  }
  throw new StintError('E_BUSY', `network.pool ${pool} is used up on this node`)
}
