import { describe, expect, test } from '@jest/globals'
import { nodeTable } from '../../daemon/linux/network.ts'
import { directLines, directTable, staleTables } from '../../daemon/linux/direct-network.ts'
import { forwardingLines, memberMtu, needPrivilegedPorts, neighbourLines, peersOf, segmentOf, underlayMtu, vxlanLine } from '../../daemon/linux/run-network.ts'
import { heardPorts, probeAddresses } from '../../daemon/linux/segment.ts'
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

  test('is what the narrowest way takes, less 50 with VXLAN', () => {
    expect(memberMtu([9000, 1500, 2044], 'vxlan')).toBe(1450)
    expect(memberMtu([9000, 1500, 2044], 'none')).toBe(1500)
  })

  test('is asked for no peer on this node itself', async () => {
    expect(await said(() => underlayMtu(peer, route('lo', { type: 'local' }), links))).toBe('E_NETWORK: 10.0.0.3 of member 2 is an address of this node itself')
  })
})

describe('the segment of all peers', () => {
  test('is that of the one device they are all reached by', () => {
    expect(segmentOf([route('ib0'), route('ib0', { metrics: [{ mtu: 1400 }] })])).toBe('ib0')
  })

  test.each([
    ['another device', route('eth0')],
    ['a gateway', route('ib0', { gateway: '10.0.0.254' })],
    ['a gateway of IPv6', route('ib0', { via: { family: 'inet6', host: 'fe80::1' } })],
    ['this node itself', route('lo', { type: 'local' })],
  ])('is not there where one is reached by %s', (_, other) => {
    expect(segmentOf([route('ib0'), other])).toBeUndefined()
    expect(segmentOf([other, route('ib0')])).toBeUndefined()
  })
})

describe('without encapsulation', () => {
  test('a member has a pair whose other end has no address', () => {
    expect(directLines({ pid: 77, proc: '/proc/9/fd/5' }, view, '02:53:00:00:00:01', 1500)).toEqual([
      'link add sm77 mtu 1500 address 02:53:00:00:00:01 type veth peer name stint0 mtu 1500 address 02:53:80:00:05:01 netns /proc/9/fd/5/ns/net',
      'neigh add 100.64.5.2 lladdr 02:53:80:00:05:01 dev sm77 nud permanent',
      'link set sm77 up',
    ])
  })

  test('all rules but those for arrivals at the node drop what they do not name', () => {
    const table = directTable({ pid: 77 }, view, peersOf(view), 'eth0').split('\n').map((line) => line.trim())
    expect(table.filter((line) => line.startsWith('type'))).toEqual([
      'type filter hook ingress device "sm77" priority filter; policy drop;',
      'type filter hook ingress device "eth0" priority filter; policy accept;',
      'type filter hook egress device "sm77" priority filter; policy drop;',
    ])
    expect(table.filter((line) => /fwd|accept$/.test(line))).toEqual([
      'ip saddr 100.64.5.2 fwd ip to ip daddr map { 100.64.5.1 : 10.0.0.1, 100.64.5.3 : 10.0.0.3 } device "eth0"',
      'ip daddr 100.64.5.2 ip saddr { 100.64.5.1, 100.64.5.3 } fwd ip to 100.64.5.2 device "sm77"',
      'ip daddr 100.64.5.2 ip saddr { 100.64.5.1, 100.64.5.3 } accept',
    ])
  })

  test('tables of members whose devices are gone are removed, no others', () => {
    const tables = ['table netdev stint_sm77', 'table netdev stint_sm78', 'table netdev stint_probe_4000', 'table ip stint'].join('\n')
    expect(staleTables(tables, new Set(['lo', 'sm78']))).toEqual(['add table netdev stint_sm77', 'delete table netdev stint_sm77'])
    expect(staleTables(tables, new Set(['sm77', 'sm78']))).toEqual([])
  })
})

describe('test packets', () => {
  test('have addresses that no member has', () => {
    expect(probeAddresses('100.64.0.0/10')).toEqual({ source: '100.64.0.0', target: '100.64.0.255' })
  })

  test('are known by their ports, as nft 1.1 lists them', () => {
    const set = (elements: string): string => `table ip stint {\n\tset probes {\n\t\ttype inet_service\n\t\tsize 65536\n\t\tflags dynamic,timeout\n\t\ttimeout 1m${elements}\n\t}\n}`
    expect(heardPorts(set(''))).toEqual(new Set())
    expect(heardPorts(set('\n\t\telements = { 20001 expires 58s980ms, 20002 timeout 1m expires 59s }'))).toEqual(new Set([20001, 20002]))
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
    expect(vxlanLine({ pid: 77, proc: '/proc/9/fd/5' }, view, 4789, 1450)).toBe('link add stint0 mtu 1450 address 02:53:80:00:05:01 netns /proc/9/fd/5/ns/net type vxlan id 8388613 dev st77 dstport 4789 srcport 512 1023 nolearning')
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
      '    ip saddr 10.8.0.0 ip daddr 10.8.0.255 meta l4proto udp update @probes { udp dport } drop',
      '    ip saddr 10.8.0.0/16 udp dport 4790 drop',
      '    ip saddr 10.8.0.0/16 udp dport 4790 drop',
      '    udp dport 4790 @th,96,8 >= 128 udp sport != 512-1023 drop',
    ])
  })
})
