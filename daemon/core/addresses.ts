import { Type, type Static } from 'typebox'
import { StintError } from './errors.ts'

/** Members that share one run's block of virtual addresses: the low bits of an address. */
const memberBits = 8
/** A block's first and last address are no member's. */
const mostMembers = 2 ** memberBits - 2

/** VNIs of runs have the highest of 24 bits: other users of VXLAN on a node (Docker Swarm, Kubernetes) count from below. */
export const lowestVni = 2 ** 23
const vnis = 2 ** 23

/** How packets travel from node to node: inside VXLAN's, or as they are. */
export const encapsulations = ['vxlan', 'none'] as const
export type Encapsulation = (typeof encapsulations)[number]
/** `auto`: without encapsulation where that is shown to work between the nodes of a run. */
export const encapsulationModes = ['auto', ...encapsulations] as const

/** The private network of a run's members; numbers are allotted at its first start and the same for life. */
export const RunNetwork = Type.Object({
  /** VXLAN network identifier, 24 bits. Members' MACs have it, too. */
  vni: Type.Integer(),
  /** The block of its members' addresses, such as 100.64.5.0/24. */
  prefix: Type.String(),
  /** In this stint, the same for all members; missing: VXLAN. */
  encapsulation: Type.Optional(Type.Enum([...encapsulations])),
})
export type RunNetwork = Readonly<Static<typeof RunNetwork>>

/** What other runs have on the nodes that are asked. */
export interface TakenNetworks {
  readonly vnis: ReadonlySet<number>
  /** Addresses of members, of any block. */
  readonly addresses: ReadonlySet<string>
}

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

function baseOf(prefix: string): number {
  return parseIpv4(prefix.replace(/\/.*/, ''))
}

/** @returns the first of `count` numbers, from `start` on and round, that is not taken; undefined when all are */
function firstFree(start: number, count: number, taken: ReadonlySet<number>): number | undefined {
  for (let tried = 0; tried < count; tried++) {
    const candidate = (start + tried) % count
    if (!taken.has(candidate)) return candidate
  }
  return undefined
}

/**
 * The virtual addresses of a run's members: a block out of `pool` (such as 100.64.0.0/10), chosen by the job id so that it
 * is stable everywhere, moved on while a sandbox has an address in it.
 * @param taken addresses of other sandboxes on the run's nodes
 * @throws StintError E_BAD_CONFIG when it is no pool, E_BUSY when it is used up
 */
export function allotBlock(pool: string, jobId: number, taken: ReadonlySet<string>): string {
  const bits = poolBits(pool)
  if (bits === undefined) throw new StintError('E_BAD_CONFIG', `network.pool "${pool}" must be an aligned IPv4 prefix from /8 to /23`)
  const base = baseOf(pool)
  const takenBlocks = new Set([...taken].map((address) => Math.floor((parseIpv4(address) - base) / 2 ** memberBits)))
  const block = firstFree(jobId, 2 ** (bits - memberBits), takenBlocks)
  if (block === undefined) throw new StintError('E_BUSY', `network.pool ${pool} is used up on this node`)
  return `${formatIpv4(base + block * 2 ** memberBits)}/${32 - memberBits}`
}

/**
 * Block and VNI of a run of several nodes, both by the job id, moved on while taken on one of its nodes.
 * @throws StintError E_BAD_CONFIG when it is no pool, E_BUSY when it is used up
 */
export function allotNetwork(pool: string, jobId: number, taken: TakenNetworks): RunNetwork {
  const number = firstFree(jobId, vnis, new Set([...taken.vnis].map((vni) => vni - lowestVni)))
  if (number === undefined) throw new StintError('E_BUSY', 'all VNIs are in use on these nodes')
  return { vni: lowestVni + number, prefix: allotBlock(pool, jobId, taken.addresses) }
}

function needMember(member: number): void {
  if (!Number.isInteger(member) || member < 0 || member >= mostMembers) throw new StintError('E_BAD_REQUEST', `${member} is no member: a run has at most ${mostMembers}`)
}

/** @param prefix a block of `allotBlock` @throws StintError E_BAD_REQUEST for a number that does not fit in it */
export function memberAddress(prefix: string, member: number): string {
  needMember(member)
  return formatIpv4(baseOf(prefix) + 1 + member)
}

/** The locally administered MAC of a member's device, the same on whatever node it lands. @throws StintError E_BAD_REQUEST */
export function memberMac(vni: number, member: number): string {
  needMember(member)
  return ['02', '53', ...[vni >> 16, vni >> 8, vni, member].map((byte) => (byte & 0xff).toString(16).padStart(2, '0'))].join(':')
}
