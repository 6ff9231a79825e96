import { StintError } from './errors.ts'

/** Members that share one run's block of virtual addresses: the low bits of an address. */
const memberBits = 6

export function parseIpv4(text: string): number {
  const parts = text.split('.').map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : NaN))
  if (parts.length !== 4 || !parts.every((part) => part <= 255)) throw new StintError('E_BAD_CONFIG', `"${text}" is no IPv4 address`)
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}

/** Bits of a pool below its prefix; undefined when it is no prefix, its base has bits below it, or runs would not fit. */
function poolBits(pool: string): number | undefined {
  const match = /^([0-9.]+)\/(\d{1,2})$/.exec(pool)
  const bits = 32 - Number(match?.[2])
  if (match?.[1] === undefined || !(bits > memberBits && bits <= 24)) return undefined
  try {
    return parseIpv4(match[1]) % 2 ** bits === 0 ? bits : undefined
  } catch {
    return undefined
  }
}

/** Whether runs can get their addresses out of it, such as 100.64.0.0/10. */
export function isAddressPool(pool: string): boolean {
  return poolBits(pool) !== undefined
}

/**
 * The virtual address of a run's member 0: a block of 2^6 addresses out of `pool` (such as 100.64.0.0/10), chosen by the
 * job id so that it is stable everywhere, moved on while another sandbox on this node has it.
 * @throws StintError E_BAD_CONFIG when it is no pool, E_BUSY when it is used up
 */
export function allotAddress(pool: string, jobId: number, taken: ReadonlySet<string>): string {
  const bits = poolBits(pool)
  if (bits === undefined) throw new StintError('E_BAD_CONFIG', `network.pool "${pool}" must be an aligned IPv4 prefix from /8 to /25`)
  const base = parseIpv4(pool.replace(/\/.*/, ''))
  const blocks = 2 ** (bits - memberBits)
  for (let tried = 0; tried < blocks; tried++) {
    const block = (jobId + tried) % blocks
    const address = formatIpv4(base + block * 2 ** memberBits + 1)
    if (!taken.has(address)) return address
  }
  throw new StintError('E_BUSY', `network.pool ${pool} is used up on this node`)
}
