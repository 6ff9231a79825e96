import { memberAddress, memberMac } from '../core/addresses.ts'
import { memberDevice, nobody } from './gate.ts'
import type { HeldProcess } from './held-process.ts'
import type { MemberNetwork, MemberPlace } from './run-network.ts'

/**
 * A run's private network without encapsulation: members' packets travel between nodes of one layer-2 segment as they are. `stint0` is
 * a veth device. Rules where packets enter the node's two devices hand them from one to the other, past the node's own routing, firewall
 * and connection tracking, which cost more than all else: without them members are as fast as their nodes.
 */

/** The node's end of the pair whose other end is a member's `stint0`. */
export function memberPairName({ pid }: Pick<HeldProcess, 'pid'>): string {
  return `sm${pid}`
}

function tableOf(device: string): string {
  return `netdev stint_${device}`
}

/** Lines for `ip -batch` in the node's namespace. The node's end has no address: the node itself is nobody in the run's network. */
export function directLines(pid1: Pick<HeldProcess, 'pid' | 'proc'>, { network, member }: MemberNetwork, nodeMac: string, mtu: number): string[] {
  const device = memberPairName(pid1)
  const mac = memberMac(network.vni, member)
  return [
    `link add ${device} mtu ${mtu} address ${nodeMac} type veth peer name ${memberDevice} mtu ${mtu} address ${mac} netns ${pid1.proc}/ns/net`,
    `neigh add ${memberAddress(network.prefix, member)} lladdr ${mac} dev ${device} nud permanent`,
    `link set ${device} up`,
  ]
}

/**
 * The node's rules for one member, as a transaction that replaces earlier ones. Nothing but what this member sends to members of its own
 * run leaves its device; nothing but what those send to it gets in, whoever on the node sends it (any user may name the device,
 * SO_BINDTODEVICE). Each hand-over counts as a hop: a packet that is to live for one only, as it may between members, gets more.
 * @param underlay the device whose segment has all peers
 */
export function directTable(pid1: Pick<HeldProcess, 'pid'>, { network, member }: MemberNetwork, peers: readonly MemberPlace[], underlay: string): string {
  const device = memberPairName(pid1)
  const own = memberAddress(network.prefix, member)
  const addressOf = (place: MemberPlace): string => memberAddress(network.prefix, place.member)
  const fromPeer = `ip daddr ${own} ip saddr { ${peers.map(addressOf).join(', ')} }`
  return [
    ...noTable(device),
    `table ${tableOf(device)} {`,
    '  chain leaving {',
    `    type filter hook ingress device "${device}" priority filter; policy drop;`,
    `    ether daddr ${nobody} drop`,
    '    ip ttl < 3 ip ttl set 3',
    `    ip saddr ${own} fwd ip to ip daddr map { ${peers.map((place) => `${addressOf(place)} : ${place.nodeAddress}`).join(', ')} } device "${underlay}"`,
    '  }',
    '  chain arriving {',
    `    type filter hook ingress device "${underlay}" priority filter; policy accept;`,
    `    ${fromPeer} fwd ip to ${own} device "${device}"`,
    '  }',
    '  chain entering {',
    `    type filter hook egress device "${device}" priority filter; policy drop;`,
    `    ${fromPeer} accept`,
    '  }',
    '}',
  ].join('\n')
}

/** Says that a member's table is gone, whether it was there or not: nft before 1.0.8 has no `destroy`. */
function noTable(device: string): string[] {
  return [`add table ${tableOf(device)}`, `delete table ${tableOf(device)}`]
}

/**
 * Lines for nft that remove the tables of members whose devices are gone: a table outlives them.
 * @param tables output of `nft list tables`
 * @param devices names of the node's devices
 */
export function staleTables(tables: string, devices: ReadonlySet<string>): string[] {
  return [...tables.matchAll(/^table netdev stint_(sm\d+)$/gm)].flatMap(([, device = '']) => (devices.has(device) ? [] : noTable(device)))
}
