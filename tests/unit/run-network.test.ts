import { describe, expect, test } from '@jest/globals'
import { nodeTable } from '../../daemon/linux/network.ts'
import { forwardingLines, memberMtu, needPrivilegedPorts, neighbourLines, peersOf, underlayMtu, vxlanLine } from '../../daemon/linux/run-network.ts'
import { said } from '../support/errors.ts'

const view = {
  network: { vni: 0x800005, prefix: '100.64.5.0/24' },
  member: 1,
  members: [{ member: 0, nodeAddress: '10.0.0.1' }, { member: 1, nodeAddress: '10.0.0.2' }, { member: 2, nodeAddress: '10.0.0.3' }],
}
const peer = { member: 2, nodeAddress: '10.0.0.3' }
// `ip -json route get` and `ip -json link show` of iproute2 6.15, shortened to what matters and one field more.
const links = JSON.stringify([{ ifname: 'lo', mtu: 65536 }, { ifname: 'eth0', mtu: 1500, qdisc: 'noqueue' }, { ifname: 'ib0', mtu: 2044 }])
const route = (dev: string, more: object = {}): string => JSON.stringify([{ dst: '10.0.0.3', dev, prefsrc: '10.0.0.2', flags: [], uid: 0, cache: [], ...more }])

describe('the MTU between members', () => {
  test('is that of the device towards a peer, or of the route where that is less', () => {
    expect(underlayMtu(peer, route('ib0'), links)).toBe(2044)
    expect(underlayMtu(peer, route('eth0', { metrics: [{ mtu: 1400 }] }), links)).toBe(1400)
    expect(underlayMtu(peer, route('eth0', { metrics: [{ advmss: 900 }] }), links)).toBe(1500)
  })

  test('leaves room for VXLAN on the narrowest way', () => {
    expect(memberMtu([9000, 1500, 2044])).toBe(1450)
  })

  test('is asked for no peer on this node itself', async () => {
    expect(await said(() => underlayMtu(peer, route('lo', { type: 'local' }), links))).toBe('E_NETWORK: 10.0.0.3 of member 2 is an address of this node itself')
  })
})

describe('a member', () => {
  test('knows its peers beforehand, by MAC, address and node, and nobody else', () => {
    const peers = peersOf(view)
    expect(neighbourLines(view, peers)).toEqual([
      'neigh add 100.64.5.1 lladdr 02:53:80:00:05:00 dev stint0 nud permanent',
      'neigh add 100.64.5.3 lladdr 02:53:80:00:05:02 dev stint0 nud permanent',
    ])
    expect(forwardingLines(view, peers)).toEqual([
      'fdb add 02:53:80:00:05:00 dev stint0 dst 10.0.0.1 self permanent',
      'fdb add 02:53:80:00:05:02 dev stint0 dst 10.0.0.3 self permanent',
    ])
    expect(vxlanLine(77, view, 4789, 1450)).toBe('link add stint0 mtu 1450 address 02:53:80:00:05:01 netns 77 type vxlan id 8388613 dev st77 dstport 4789 srcport 512 1023 nolearning')
  })

  test.each(['n2', '', '::1', 'fd00::2', '10.0.0'])('%j is no address of a peer', async (nodeAddress) => {
    expect(await said(() => peersOf({ ...view, members: [...view.members, { member: 3, nodeAddress }] }))).toBe(`E_NETWORK: "${nodeAddress}" of member 3 is no IPv4 address of a node`)
  })

  test('without a peer is refused', async () => {
    expect(await said(() => peersOf({ ...view, members: view.members.slice(1, 2) }))).toBe('E_NETWORK: member 1 has nobody to talk to')
  })
})

describe('a node', () => {
  test.each([0, 80, 1023])('whose users may bind ports from %d takes no member', async (first) => {
    expect(await said(() => { needPrivilegedPorts(first) })).toBe(`E_NETWORK: users may bind ports from ${first} on this node, and could send into the networks of runs`)
  })

  test.each([1024, 2000])('whose users may bind ports from %d takes members', (first) => {
    expect(() => { needPrivilegedPorts(first) }).not.toThrow()
  })

  test('guards the configured port', () => {
    expect(nodeTable('10.8.0.0/16', 4790).split('\n').filter((line) => line.includes('udp'))).toEqual([
      '    ip saddr 10.8.0.0/16 udp dport 4790 drop',
      '    ip saddr 10.8.0.0/16 udp dport 4790 drop',
      '    udp dport 4790 @th,96,8 >= 128 udp sport != 512-1023 drop',
    ])
  })
})
