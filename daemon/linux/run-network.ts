import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { memberAddress, memberMac, type Encapsulation, type RunNetwork } from '../core/addresses.ts'
import { StintError } from '../core/errors.ts'
import { memberDevice } from './gate.ts'
import type { HeldProcess } from './held-process.ts'

/** Outer IPv4, UDP and VXLAN headers and the inner Ethernet header, bytes. */
export const vxlanOverhead = 50

/**
 * Source ports of our VXLAN packets. Only root sends from these, and packets from others are dropped by the node's table:
 * otherwise any user could put frames into any run's network.
 */
export const vxlanSourcePorts = { low: 512, high: 1023 }

/** A run's place on a node. */
export interface MemberPlace {
  readonly member: number
  /** IPv4 address of the node, as the run's other nodes reach it. */
  readonly nodeAddress: string
}

/** One member's view of the run's private network. */
export interface MemberNetwork {
  readonly network: RunNetwork
  /** The one that is connected. */
  readonly member: number
  /** All of the run's members; itself may be among them. */
  readonly members: readonly MemberPlace[]
}

/** @throws StintError E_NETWORK for a peer that cannot be one, or when there is none */
export function peersOf({ member, members }: MemberNetwork): MemberPlace[] {
  const peers = members.filter((place) => place.member !== member)
  if (peers.length === 0) throw new StintError('E_NETWORK', `member ${member} has nobody to talk to`)
  const bad = peers.find(({ nodeAddress }) => !isIPv4(nodeAddress))
  if (bad !== undefined) throw new StintError('E_NETWORK', `"${bad.nodeAddress}" of member ${bad.member} is no IPv4 address of a node`)
  return peers
}

/** What `ip -json route get` says of the way to a peer. */
interface Route {
  readonly type?: string
  readonly dev: string
  readonly gateway?: string
  readonly via?: unknown
  readonly metrics?: readonly { readonly mtu?: number }[]
}

/**
 * Bytes that a packet to a peer may have on its way out of this node.
 * @param routeJson output of `ip -json route get ADDRESS`
 * @param linkJson output of `ip -json link show`
 * @throws StintError E_NETWORK when the address is this node's own
 */
export function underlayMtu(peer: MemberPlace, routeJson: string, linkJson: string): number {
  const [route] = JSON.parse(routeJson) as [Route]
  if (route.type === 'local') throw new StintError('E_NETWORK', `${peer.nodeAddress} of member ${peer.member} is an address of this node itself`)
  const device = (JSON.parse(linkJson) as { ifname: string; mtu: number }[]).find(({ ifname }) => ifname === route.dev)
  if (device === undefined) throw new StintError('E_NETWORK', `the device ${route.dev} towards member ${peer.member} is gone`)
  return Math.min(device.mtu, ...(route.metrics ?? []).flatMap(({ mtu }) => mtu ?? []))
}

/** The most that fits to every peer, bytes. */
export function memberMtu(underlayMtus: readonly number[], encapsulation: Encapsulation): number {
  return Math.min(...underlayMtus) - (encapsulation === 'vxlan' ? vxlanOverhead : 0)
}

/**
 * The one device whose segment has all peers, none of them behind a gateway.
 * @param routesJson outputs of `ip -json route get ADDRESS`, one for each
 * @returns undefined where there is no such device
 */
export function segmentOf(routesJson: readonly string[]): string | undefined {
  const routes = routesJson.map((json) => (JSON.parse(json) as [Route])[0])
  const devices = new Set(routes.map(({ dev, type, gateway, via }) => (type === 'local' || gateway !== undefined || via !== undefined ? undefined : dev)))
  return devices.size === 1 ? [...devices][0] : undefined
}

/** @throws StintError E_NETWORK where users may send from the ports that ours are known by */
export function needPrivilegedPorts(firstUnprivileged = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'))): void {
  if (firstUnprivileged <= vxlanSourcePorts.high) {
    throw new StintError('E_NETWORK', `users may bind ports from ${firstUnprivileged} on this node, and could send into the networks of runs`, {
      hint: 'Set net.ipv4.ip_unprivileged_port_start=1024 on every node.',
    })
  }
}

/** The node's end of a sandbox's pair. */
export function pairName({ pid }: Pick<HeldProcess, 'pid'>): string {
  return `st${pid}`
}

/**
 * Line for `ip -batch` in the node's namespace. The device is born in the sandbox: it never shows in the node's own
 * namespace, yet its packets go out from there.
 *
 * Its lower device (`dev`) is the node's end of the sandbox's pair, so that it has a speed, a veth's 10 Gbit/s. A VXLAN device
 * has the speed of its lower device, or none. UCX takes a device without one for 100 Mbit/s (`uct_tcp_netif_caps`, also in UCX
 * 1.18) and copies every message in small pieces, at a third of the rate. No packet passes the lower device: our forwarding
 * entries name none, and the node's routes decide. It is not the node's own interface because the kernel deletes a VXLAN device
 * together with its lower device; this one lives as long as the sandbox, whatever happens to the node's.
 * @param mtu bytes; the pair must have room for `vxlanOverhead` more
 */
export function vxlanLine(pid1: Pick<HeldProcess, 'pid' | 'proc'>, { network, member }: MemberNetwork, port: number, mtu: number): string {
  const { low, high } = vxlanSourcePorts
  return `link add ${memberDevice} mtu ${mtu} address ${memberMac(network.vni, member)} netns ${pid1.proc}/ns/net type vxlan id ${network.vni} dev ${pairName(pid1)} dstport ${port} srcport ${low} ${high} nolearning`
}

/** Lines for `ip -batch` in the sandbox: neighbours are known beforehand, nobody is asked. */
export function neighbourLines({ network }: MemberNetwork, peers: readonly MemberPlace[]): string[] {
  return peers.map(({ member }) => `neigh add ${memberAddress(network.prefix, member)} lladdr ${memberMac(network.vni, member)} dev ${memberDevice} nud permanent`)
}

/** Lines for `bridge -batch` in the sandbox: which node a peer is on. No entry for all others: broadcasts go nowhere. */
export function forwardingLines({ network }: MemberNetwork, peers: readonly MemberPlace[]): string[] {
  return peers.map(({ member, nodeAddress }) => `fdb add ${memberMac(network.vni, member)} dev ${memberDevice} dst ${nodeAddress} self permanent`)
}
