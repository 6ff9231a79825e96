import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { encapsulations, lowestVni, memberAddress, memberMac, type RunNetwork } from '../../daemon/core/addresses.ts'
import { fixtures, move, on, restartDaemon, tryOn, until, untilRunning, type Output } from '../support/cluster.ts'
import { buildChecker, endChecker, endless, submitChecker, untilFurther, untilStep } from '../support/mpi.ts'

const minute = 60_000
const nodes = ['n1', 'n2'] as const
const nodeAddress = { n1: '10.77.0.11', n2: '10.77.0.12', n3: '10.77.0.13' } as const
type Node = keyof typeof nodeAddress

/** A network namespace in place of a sandbox, held by its first process. */
interface Sandbox {
  readonly node: Node
  readonly pid1: number
}

const held: Sandbox[] = []

async function hold(node: Node): Promise<Sandbox> {
  const pid1 = Number(await on(node, 'setsid unshare --net sleep 3600 </dev/null >/dev/null 2>&1 & pid=$!; until [[ $(readlink /proc/$pid/ns/net) != $(readlink /proc/self/ns/net) ]]; do sleep 0.02; done; echo $pid'))
  const sandbox = { node, pid1 }
  held.push(sandbox)
  return sandbox
}

async function end({ node, pid1 }: Sandbox): Promise<void> {
  await tryOn(node, `kill -9 ${pid1}`)
}

async function daemonsPart({ node, pid1 }: Sandbox, action: string, view?: object): Promise<Output> {
  return tryOn(node, `/opt/stint/node_modules/.bin/node ${fixtures}/programs/member.ts ${action} ${pid1} '${view === undefined ? '' : JSON.stringify(view)}'`)
}

/** @returns the gate's state afterwards */
async function must(sandbox: Sandbox, action: string, view?: object): Promise<string> {
  const { exitCode, stdout, stderr } = await daemonsPart(sandbox, action, view)
  if (exitCode !== 0) throw new Error(`${action}: ${stderr}`)
  return stdout
}

function within({ pid1 }: Sandbox, command: string): string {
  return `nsenter --net=/proc/${pid1}/ns/net ${command}`
}

async function inside(sandbox: Sandbox, command: string): Promise<string> {
  return on(sandbox.node, within(sandbox, command))
}

const places = nodes.map((node, member) => ({ member, nodeAddress: nodeAddress[node] }))

async function connected(network: RunNetwork, isOpen = true): Promise<[Sandbox, Sandbox]> {
  const members = await Promise.all(nodes.map(hold))
  await Promise.all(members.map(async (sandbox, member) => must(sandbox, 'connect', { network, member, members: places })))
  if (isOpen) await Promise.all(members.map(async (sandbox) => must(sandbox, 'open')))
  return members as [Sandbox, Sandbox]
}

async function pings(from: Sandbox, address: string, options = ''): Promise<boolean> {
  return (await tryOn(from.node, within(from, `ping -c 2 -i 0.2 -W 1 ${options} ${address}`))).exitCode === 0
}

/** What a member hears on a port while `act` goes on, and for a second more. */
async function heard(member: Sandbox, port: number, act: () => Promise<unknown>): Promise<string[]> {
  const listening = inside(member, `python3 ${fixtures}/programs/datagrams.py listen ${port} 5`)
  await until('it listens', 5, async () => (await inside(member, 'ss -lun')).includes(`:${port} `))
  await act()
  return (await listening).split('\n').filter((line) => line !== '')
}

const addressOf = (network: RunNetwork, member: number): string => memberAddress(network.prefix, member)

afterAll(async () => {
  await Promise.all(held.map(end))
})

describe.each(encapsulations)('two runs on the same two nodes, with encapsulation: %s', (encapsulation) => {
  const [ours, theirs]: [RunNetwork, RunNetwork] = [{ vni: lowestVni + 1001, prefix: '100.64.201.0/24', encapsulation }, { vni: lowestVni + 1002, prefix: '100.64.202.0/24', encapsulation }]
  let us: [Sandbox, Sandbox]
  let them: [Sandbox, Sandbox]

  beforeAll(async () => {
    [us, them] = await Promise.all([connected(ours), connected(theirs)])
  }, minute)

  afterAll(async () => {
    await Promise.all([...us, ...them].map(end))
  })

  test('each reach their own member by its address, and no other', async () => {
    for (const [run, network] of [[us, ours], [them, theirs]] as const) {
      expect(await pings(run[0], addressOf(network, 1))).toBe(true)
      expect(await pings(run[1], addressOf(network, 0))).toBe(true)
    }
    for (const member of [0, 1]) {
      expect(await pings(us[0], addressOf(theirs, member))).toBe(false)
      expect(await pings(them[1], addressOf(ours, member))).toBe(false)
    }
  }, minute)

  test('do not meet where one sends to the MAC of the other', async () => {
    const hear = await heard(them[1], 5000, async () => {
      const forward = (action: string): string => (encapsulation === 'vxlan' ? `; bridge fdb ${action}` : '')
      await inside(us[0], `bash -c 'ip route add ${addressOf(theirs, 1)} dev stint0; ip neigh add ${addressOf(theirs, 1)} lladdr ${memberMac(theirs.vni, 1)} dev stint0${forward(`add ${memberMac(theirs.vni, 1)} dev stint0 dst ${nodeAddress.n2}`)}'`)
      await inside(us[0], `python3 ${fixtures}/programs/datagrams.py send ${addressOf(theirs, 1)} 5000 stray`)
      await inside(them[0], `python3 ${fixtures}/programs/datagrams.py send ${addressOf(theirs, 1)} 5000 own`)
      await inside(us[0], `bash -c 'ip route del ${addressOf(theirs, 1)} dev stint0${forward(`del ${memberMac(theirs.vni, 1)} dev stint0`)}'`)
    })
    expect(hear).toEqual(['own'])
  }, minute)

  test('have one address each besides the loopback, and the MTU of the nodes, less 50 with VXLAN', async () => {
    expect((await inside(us[1], 'ip -o addr')).split('\n').filter((line) => !line.includes(' lo ')).map((line) => line.split(/\s+/).slice(1, 4))).toEqual([['stint0', 'inet', `${addressOf(ours, 1)}/24`]])
    const mtu = Number(await on('n1', 'cat /sys/class/net/eth0/mtu')) - (encapsulation === 'vxlan' ? 50 : 0)
    expect(await pings(us[0], addressOf(ours, 1), `-M do -s ${mtu - 28}`)).toBe(true)
    expect(await pings(us[0], addressOf(ours, 1), `-M do -s ${mtu - 27}`)).toBe(false)
  }, minute)

  // UCX takes a device without a speed for 100 Mbit/s, and copies messages in small pieces: a third of the nodes' bandwidth.
  test('have a device with a speed, as UCX asks for it', async () => {
    const speed = await inside(us[0], "unshare --mount sh -c 'mount -t sysfs sysfs /sys && cat /sys/class/net/stint0/speed'")
    expect(Number(speed)).toBeGreaterThanOrEqual(10_000)
  }, minute)

  test('are sent no packet from the outside that is longer than their end of the pair takes', async () => {
    expect(await on('n2', `ip route get ${addressOf(ours, 1)}`)).toMatch(/ mtu 1450\b/)
    expect(await inside(us[1], 'ip link show eth0')).toMatch(/eth0@.* mtu 1450 /)
  }, minute)

  test('reach the outside with the address of their node, and are not reached from there', async () => {
    const peer = on('n3', "timeout 20 python3 -c \"import socket; c, a = socket.create_server(('', 5001)).accept(); print(a[0])\"")
    await until('n3 listens', 10, async () => (await on('n3', 'ss -ltn')).includes(':5001 '))
    await inside(us[1], `python3 -c "import socket; socket.create_connection(('${nodeAddress.n3}', 5001), 5)"`)
    expect((await peer).trim()).toBe(nodeAddress.n2)
    await on('n3', `ip route add ${addressOf(ours, 1)} via ${nodeAddress.n2}`)
    const fromOutside = await tryOn('n3', `ping -c 1 -W 1 ${addressOf(ours, 1)}`)
    await on('n3', `ip route del ${addressOf(ours, 1)}`)
    expect(fromOutside.exitCode).toBe(1)
  }, minute)

  test('hear neither broadcasts nor multicasts, not even their own', async () => {
    const send = async (address: string, text: string): Promise<unknown> => inside(us[0], `python3 ${fixtures}/programs/datagrams.py send ${address} 5002 ${text}`)
    const stranger = heard(them[1], 5002, async () => undefined)
    const hear = await heard(us[1], 5002, async () => {
      await send(ours.prefix.replace('.0/24', '.255'), 'broadcast')
      await send('255.255.255.255', 'limited')
      await send('224.0.0.1', 'multicast')
      await send(addressOf(ours, 1), 'unicast')
    })
    expect(hear).toEqual(['unicast'])
    expect(await stranger).toEqual([])
  }, minute)

  describe('take no frame that an ordinary user forges', () => {
    const forge = `python3 ${fixtures}/programs/datagrams.py forge ${nodeAddress.n2} ${ours.vni} ${memberMac(ours.vni, 1)} ${addressOf(ours, 1)} 5003`
    const fromAll = async (): Promise<void> => {
      for (const node of ['n1', 'n2', 'n3', 'ctl']) await on(node, `${forge} from-${node}`, { user: node === 'n1' ? 'bob' : 'alice' })
      await on('n1', within(them[0], `setpriv --reuid bob --clear-groups ${forge} from-sandbox`))
    }

    afterEach(async () => {
      for (const node of nodes) await restartDaemon(node)
    }, minute)

    test('with the rules of stintd', async () => {
      expect(await heard(us[1], 5003, fromAll)).toEqual([])
    }, minute)

    test('which gets in without them', async () => {
      for (const node of nodes) await on(node, 'nft flush chain ip stint input; nft flush chain ip stint forward')
      // Without VXLAN there is nothing that opens such a frame.
      expect((await heard(us[1], 5003, fromAll)).toSorted()).toEqual(encapsulation === 'vxlan' ? ['from-ctl', 'from-n1', 'from-n2', 'from-n3', 'from-sandbox'] : [])
    }, minute)

    test('after restarts of stintd, which leave one set of rules', async () => {
      expect(await heard(us[1], 5003, fromAll)).toEqual([])
      expect((await on('n2', 'nft list tables')).split('\n').filter((line) => !/^table netdev stint_sm\d+$/.test(line))).toEqual(['table ip stint'])
      expect((await on('n2', 'nft list ruleset')).match(/@th,96,8/g)).toHaveLength(1)
      expect(await pings(us[0], addressOf(ours, 1))).toBe(true)
    }, minute)
  })

  // Any user may name a device for a socket to send by; a process of the same node reaches the pair to the outside.
  test('hear no user who sends by a device of the node or of another sandbox, in a member\'s name or not; without rules one would be heard', async () => {
    const stray = `python3 ${fixtures}/programs/datagrams.py stray ${addressOf(ours, 1)} ${addressOf(ours, 0)} 5007`
    const fromAll = async (): Promise<void> => {
      await Promise.all(['n1', 'n2', 'n3', 'ctl'].map(async (node) => on(node, `${stray} from-${node}`, { user: node === 'n1' ? 'bob' : 'alice' })))
      await Promise.all(them.map(async (sandbox) => on(sandbox.node, within(sandbox, `setpriv --reuid bob --clear-groups ${stray} from-sandbox-${sandbox.node}`))))
    }
    const { pid1 } = us[1]
    expect(await heard(us[1], 5007, fromAll)).toEqual([`from-n2 by st${pid1}`])
    if (encapsulation === 'vxlan') return
    await on('n2', `nft flush chain netdev stint_sm${pid1} entering; nft 'add chain netdev stint_sm${pid1} entering { policy accept; }'`)
    expect((await heard(us[1], 5007, fromAll)).toSorted()).toEqual([`from-n2 by sm${pid1}`, `from-n2 by st${pid1}`])
  }, minute)
})

describe('with network.encapsulation = "auto"', () => {
  /** What `stint doctor` says on n1, whose daemon remembers nothing. */
  const told = async (): Promise<string> => {
    await restartDaemon('n1')
    const findings = JSON.parse((await tryOn('n1', 'stint doctor --json')).stdout) as { subject: string; found: string }[]
    return findings.find(({ subject }) => subject === 'network of members')?.found ?? ''
  }
  const device = async (): Promise<string> => on('n1', 'cd /tmp; sbatch --wait --quiet --stint --nodes=2 --nodelist=n1,n2 --output=/tmp/device --wrap="ip -details link show stint0"; cat /tmp/device')

  afterAll(async () => { await restartDaemon('n1') })

  test('members do without where test packets pass between their nodes', async () => {
    expect(await told()).toMatch(/^without encapsulation to (\d) of \1 nodes tried$/)
    expect(await device()).toMatch(/mtu 1500[^]* veth /)
  }, 2 * minute)

  test('they have VXLAN where the network drops addresses that are not its own, as in clouds, whichever way', async () => {
    for (const deaf of ['n2', 'n1']) {
      await on(deaf, `nft 'table netdev cloud { chain arriving { type filter hook ingress device "eth0" priority -10; policy accept; ip saddr 100.64.0.0/10 drop; }; }'`)
      expect(await told()).toMatch(deaf === 'n2' ? /^without encapsulation to \d of \d nodes tried, VXLAN to the others: packets with addresses of jobs do not arrive at n2$/ : /^without encapsulation to 0 of \d nodes tried, VXLAN to the others: packets with addresses of jobs do not arrive at n1$/)
      expect(await device()).toMatch(/mtu 1450[^]* vxlan id /)
      await on(deaf, 'nft delete table netdev cloud')
    }
  }, 4 * minute)

  test.each(['mpich', 'openmpi'] as const)('a job of %s goes on with VXLAN after it had none, and the other way round; every number right', async (flavour) => {
    const kind = async (node: string, job: number): Promise<string> => on(node, `pid=$(pgrep -f '[s]tint-init guard.* job=${job} ' | head -n 1); nsenter --net=/proc/$(pgrep -P $pid | head -n 1)/ns/net ip -details link show stint0 | grep -oE ' (veth|vxlan) ' | tr -d ' '`)
    const job = await submitChecker(flavour, { directory: await buildChecker([flavour]), nodes: 2, perNode: 1, steps: endless })
    const first = await untilRunning(job.job)
    await untilStep(job, 50)
    expect(await kind(first, job.job)).toBe('veth')
    const third = 'n3'
    await on(third, `nft 'table netdev cloud { chain arriving { type filter hook ingress device "eth0" priority -10; policy accept; ip saddr 100.64.0.0/10 drop; }; }'`)
    const [second = ''] = await move(job.job, first, 1)
    expect(await kind(second, job.job)).toBe('vxlan')
    await untilFurther(job)
    await on(third, 'nft delete table netdev cloud')
    for (const node of ['n1', 'n2', third]) await restartDaemon(node)
    const [last = ''] = await move(job.job, second, 2, [second])
    expect(await kind(last, job.job)).toBe('veth')
    await untilFurther(job)
    await endChecker(job, 2)
  }, 8 * minute)

  test('and where one of their nodes is behind a gateway', async () => {
    await on('n2', `ip route add ${nodeAddress.n1} via ${nodeAddress.n3}`)
    expect(await told()).toMatch(/VXLAN to the others: the other nodes are not on one segment with n2$/)
    await on('n2', `ip route del ${nodeAddress.n1}`)
  }, minute)
})

describe.each(encapsulations)('a gate, with encapsulation: %s', (encapsulation) => {
  const network = { vni: lowestVni + 1003, prefix: '100.64.203.0/24', encapsulation }
  let members: [Sandbox, Sandbox]

  beforeAll(async () => {
    members = await connected(network, false)
  }, minute)

  afterAll(async () => {
    await Promise.all(members.map(end))
  })

  test('is shut from the first, opens and shuts however often it is told', async () => {
    const [first, second] = members
    expect([await must(first, 'state'), await must(second, 'open')]).toEqual(['shut', 'open'])
    expect(await pings(second, addressOf(network, 0))).toBe(false)
    expect([await must(first, 'open'), await must(first, 'open')]).toEqual(['open', 'open'])
    expect(await pings(second, addressOf(network, 0))).toBe(true)
    expect([await must(second, 'shut'), await must(second, 'shut'), await must(first, 'state')]).toEqual(['shut', 'shut', 'open'])
    expect(await pings(first, addressOf(network, 1))).toBe(false)
    expect(await pings(second, addressOf(network, 0))).toBe(false)
    expect(await must(second, 'open')).toBe('open')
  }, minute)

  test('lets nothing out, and the sender of a datagram sees no error', async () => {
    const counted = async (): Promise<number> => Number(await on('n2', 'cat /sys/class/net/eth0/statistics/rx_packets'))
    expect(await must(members[0], 'shut')).toBe('shut')
    const hear = await heard(members[1], 5004, async () => inside(members[0], `bash -c 'for i in $(seq 50); do python3 ${fixtures}/programs/datagrams.py send ${addressOf(network, 1)} 5004 x || exit 1; done'`))
    expect(hear).toEqual([])
    const before = await counted()
    await inside(members[0], `ping -f -c 1000 -W 1 ${addressOf(network, 1)} || true`)
    expect(await counted() - before).toBeLessThan(200)
    await must(members[0], 'open')
  }, minute)

  test.each([['the sender', [0, 1]], ['the receiver', [1, 0]]] as const)('that is shut for 10 s, and opened for %s first, breaks no connection: flowing, or blocked by a full window', async (_, order) => {
    const [sender, receiver] = members
    const program = `python3 ${fixtures}/programs/transfer.py`
    const received = [inside(receiver, `${program} receive 5005 0`), inside(receiver, `${program} receive 5006 25`)]
    await until('they listen', 10, async () => {
      const listeners = await inside(receiver, 'ss -ltn')
      return [5005, 5006].every((port) => listeners.includes(`:${port} `))
    })
    const sent = [inside(sender, `${program} send ${addressOf(network, 1)} 5005 20`), inside(sender, `${program} send ${addressOf(network, 1)} 5006 20`)]
    await until('one is blocked', 20, async () => (await inside(sender, 'ss -tno dport = 5006')).includes('timer:(persist'))
    await Promise.all(members.map(async (member) => must(member, 'shut')))
    await on('n1', 'sleep 10')
    for (const member of order) await must(members[member], 'open')
    const bytes = (await Promise.all(sent)).map((text) => text.trim())
    const [flowing, blocked] = await Promise.all(received)
    expect(flowing?.split(',')[0]).toBe(bytes[0])
    expect(blocked?.split(',')[0]).toBe(bytes[1])
    const silence = Number(/silence ([\d.]+)/.exec(flowing ?? '')?.[1])
    expect(silence).toBeGreaterThan(9)
    expect(silence).toBeLessThan(30)
  }, 3 * minute)
})

describe.each(encapsulations)('a sandbox, with encapsulation: %s', (encapsulation) => {
  const network = { vni: lowestVni + 1004, prefix: '100.64.204.0/24', encapsulation }
  const view = { network, member: 0, members: places }
  const devices = async (): Promise<string> => on('n1', "ip -o link | grep -oE ' (s[tm][0-9]+|stint0)@' | sort; ip route | grep -c '^100.64.204.' || true")

  test('leaves nothing on its node when its processes are killed, and its run may come back at once', async () => {
    const before = await devices()
    const first = await hold('n1')
    expect(await must(first, 'connect', view)).toBe('shut')
    expect(await devices()).not.toBe(before)
    await end(first)
    const second = await hold('n1')
    expect(await must(second, 'connect', view)).toBe('shut')
    await end(second)
    await until('nothing is left', 10, async () => (await devices()) === before)
  }, minute)

  test.each([
    ['has nobody as a peer', { ...view, members: places.slice(0, 1) }, /^E_NETWORK: member 0 has nobody to talk to$/],
    ['has its own node as a peer', { ...view, members: [places[0], { member: 1, nodeAddress: nodeAddress.n1 }] }, /^E_NETWORK: 10\.77\.0\.11 of member 1 is an address of this node itself$/],
    ['has a peer without a route to it', { ...view, members: [places[0], { member: 1, nodeAddress: '192.0.2.1' }] }, /^E_NETWORK: no route to 192\.0\.2\.1 of member 1: .*unreachable$/],
  ])('that %s is refused, and nothing of it is left', async (_, bad, expected) => {
    const sandbox = await hold('n1')
    const before = await devices()
    const { exitCode, stderr } = await daemonsPart(sandbox, 'connect', bad)
    expect([exitCode, stderr]).toEqual([1, expect.stringMatching(expected)])
    expect(await devices()).toBe(before)
    expect(await inside(sandbox, 'ip -o link')).not.toMatch(/stint0|eth0/)
  }, minute)

  test.each([
    ...(encapsulation === 'vxlan' ? [['VNI', { ...network, prefix: '100.64.205.0/24' }] as const] : []),
    ['address', { ...network, vni: network.vni + 1 }] as const,
  ])('whose %s another has on this node is refused, nothing of it is left, and the other stays connected', async (_, same) => {
    const other = await hold('n1')
    await must(other, 'connect', view)
    const sandbox = await hold('n1')
    const before = await devices()
    const { exitCode, stderr } = await daemonsPart(sandbox, 'connect', { ...view, network: same })
    expect([exitCode, stderr]).toEqual([1, "E_BUSY: another sandbox on this node has this run's virtual address or VNI"])
    expect(await devices()).toBe(before)
    expect(await inside(sandbox, 'ip -o link')).not.toMatch(/stint0|eth0/)
    expect(await inside(other, 'ip -o link')).toMatch(/stint0[^]*eth0|eth0[^]*stint0/)
    await end(other)
  }, minute)

  test('on a node whose users may bind privileged ports is refused, for VXLAN', async () => {
    const sandbox = await hold('n1')
    await on('n1', 'sysctl -q net.ipv4.ip_unprivileged_port_start=80')
    const { exitCode, stderr } = await daemonsPart(sandbox, 'connect', view)
    await on('n1', 'sysctl -q net.ipv4.ip_unprivileged_port_start=1024')
    expect([exitCode, stderr]).toEqual(encapsulation === 'vxlan' ? [1, expect.stringMatching(/^E_NETWORK: users may bind ports from 80/)] : [0, ''])
    await end(sandbox)
  }, minute)
})
