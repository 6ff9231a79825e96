import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { lowestVni, memberAddress } from '../core/addresses.ts'
import { StintError, isStintError } from '../core/errors.ts'
import type { CommandRunner, ReadyProgram } from './command.ts'
import { directLines, directTable, staleTables } from './direct-network.ts'
import { Gate, memberDevice, type GateState } from './gate.ts'
import type { HeldProcess } from './held-process.ts'
import { probeRules } from './segment.ts'
import { forwardingLines, memberMtu, needPrivilegedPorts, neighbourLines, pairName, peersOf, segmentOf, underlayMtu, vxlanLine, vxlanOverhead, vxlanSourcePorts, type MemberNetwork, type MemberPlace } from './run-network.ts'

/** The sandbox's next hop: the same link-local address on the node's end of every pair. */
const gateway = '169.254.1.1'
/** Of the two ends of every pair. Fixed, so that neither end must ask: a node's arp_ignore may forbid the answer. */
const nodeMac = '02:53:00:00:00:01'
const sandboxMac = '02:53:00:00:00:02'
/** Of the way to the outside when the configuration names none: room for one more header on Ethernet. */
const outsideMtu = 1450
/** Of a veth device, bytes. */
const mostMtu = 65535
/** A namespace whose last process has ended keeps its devices for a moment; a run that comes back to its node waits for it. */
const releaseSeconds = 5

/** After a sandbox was connected, its job's script starts first. Milliseconds. */
const refillMilliseconds = 300

/** What `connect` needs, before it is known for which sandbox. */
interface ReadyPair {
  readonly outside: ReadyProgram
  readonly inside: ReadyProgram
}

function endPair({ outside, inside }: ReadyPair): void {
  outside[Symbol.dispose]()
  inside[Symbol.dispose]()
}

export interface NetworkPrograms {
  readonly ip: string
  readonly bridge: string
  readonly nft: string
  readonly nsenter: string
}

export interface NetworkSettings {
  /** Virtual addresses of all sandboxes, such as 100.64.0.0/10. */
  readonly pool: string
  /** Of the devices in the sandbox, bytes; 0: what fits. */
  readonly mtu: number
  /** UDP, between nodes. */
  readonly vxlanPort: number
}

/** nftables rules of a node, as one transaction that replaces those of an earlier start. */
export function nodeTable(pool: string, port: number): string {
  return [
    'add table ip stint',
    'delete table ip stint',
    'table ip stint {',
    ...probeRules(pool),
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    `    ip saddr ${pool} ip daddr != ${pool} masquerade`,
    '  }',
    '  chain forward {',
    // Runs share the pool but not each other's addresses: no traffic from sandbox to sandbox through the node. Who routes
    // the pool to this node does not get in either: a sandbox opens its connections itself.
    '    type filter hook forward priority filter; policy accept;',
    `    ip saddr ${pool} ip daddr ${pool} drop`,
    `    ip daddr ${pool} ct state new drop`,
    `    ip saddr ${pool} udp dport ${port} drop`,
    '  }',
    '  chain input {',
    // Whoever sends VXLAN packets with a run's VNI (bytes 5 to 7 of the header behind UDP's 8) is in its network.
    '    type filter hook input priority filter; policy accept;',
    `    ip saddr ${pool} udp dport ${port} drop`,
    `    udp dport ${port} @th,96,8 >= ${lowestVni >> 16} udp sport != ${vxlanSourcePorts.low}-${vxlanSourcePorts.high} drop`,
    '  }',
    '}',
  ].join('\n')
}

/** Whether `ip` did not make something because an equal one is there: "File exists" of a route, or the kernel's own words of a VNI. */
function isTaken(error: unknown): boolean {
  return isStintError(error) && error.code === 'E_COMMAND_FAILED' && /File exists|already exists/.test(error.message)
}

/**
 * The network of sandboxes on this node: a veth pair (`eth0`) and NAT to the outside; for runs of several nodes a device `stint0`
 * to the other members, with a gate: VXLAN (run-network.ts), or a second pair (direct-network.ts). All devices vanish with the
 * sandbox's namespace, at once when `disconnect` is called.
 */
export class SandboxNetwork implements Disposable {
  readonly #commands: CommandRunner
  readonly #programs: NetworkPrograms
  readonly #settings: NetworkSettings
  /** PID 1 of sandboxes that have devices of ours. */
  readonly #connected = new WeakSet<HeldProcess>()
  #ready: ReadyPair | undefined
  #refill: NodeJS.Timeout | undefined

  constructor(commands: CommandRunner, programs: NetworkPrograms, settings: NetworkSettings) {
    this.#commands = commands
    this.#programs = programs
    this.#settings = settings
  }

  /** Once per daemon start: forwarding, one table of ours, none of members that are gone. */
  async prepareNode(): Promise<void> {
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    await this.#commands.run([this.#programs.nft, '-f', '-'], { input: nodeTable(this.#settings.pool, this.#settings.vxlanPort) })
    await this.#removeStaleTables()
  }

  /** From now on the programs of the next `connect` are there beforehand: every job waits for it. */
  keepReady(): void {
    this.#ready ??= this.#readyPair()
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#refill)
    if (this.#ready !== undefined) endPair(this.#ready)
  }

  #readyPair(): ReadyPair {
    const { ip, nsenter } = this.#programs
    return {
      outside: this.#commands.ready([ip, '-batch', '-']),
      inside: this.#commands.ready(['/bin/sh', '-c', 'read -r net && exec "$0" "$net" "$1" -batch -', nsenter, ip]),
    }
  }

  #takePair(): ReadyPair {
    const pair = this.#ready
    if (pair === undefined) return this.#readyPair()
    this.#ready = undefined
    this.#refill = setTimeout(() => { this.keepReady() }, refillMilliseconds).unref()
    if (pair.outside.isWaiting && pair.inside.isWaiting) return pair
    endPair(pair)
    return this.#readyPair()
  }

  /**
   * Connects the sandbox of a run of one node. Every job waits for this, so its programs have started while what they are to be told
   * is not known yet, and are told nothing when that fails.
   * @param sandbox its PID 1, whose network namespace is still empty
   * @throws StintError E_BUSY when another sandbox on this node has the address; nothing remains then
   */
  async connect(sandbox: Promise<HeldProcess>, address: string): Promise<void> {
    const begin = async (pid1: Promise<HeldProcess>): Promise<void> => {
      const { outside, inside } = this.#takePair()
      const made = outside.read(later(pid1.then((pid) => this.#outsideLines(pid, address))))
      const lines = ['link set lo up', ...insideLines('eth0'), `addr add ${address}/32 dev eth0`, 'link set eth0 up', defaultRoute(address)]
      const configured = inside.read(later(pid1.then((pid) => [...pid.enter('net'), '']), made.then(() => lines)))
      await Promise.allSettled([made, configured])
      await made
      await configured
    }
    let first: Promise<void> | undefined = begin(sandbox)
    first.catch(() => undefined) // Awaited below, once the sandbox is known.
    const pid1 = await sandbox
    await this.#whole(pid1, async () => {
      const made = first ?? begin(sandbox)
      first = undefined
      await made
    })
  }

  /**
   * Connects the sandbox of a member of a run of several nodes, **its gate shut**: nothing passes to or from other members
   * until `openGate`. The member's address is on `stint0`; `eth0` has none.
   * @param pid1 the sandbox's PID 1, whose network namespace is still empty
   * @throws StintError E_NETWORK when the nodes' network does not allow for it, E_BUSY when another sandbox on this node
   *   has the VNI or the address; nothing remains then
   */
  async connectMember(pid1: HeldProcess, view: MemberNetwork): Promise<void> {
    const peers = peersOf(view)
    const { encapsulation = 'vxlan' } = view.network
    if (encapsulation === 'vxlan') needPrivilegedPorts()
    const routes = await this.#routes(peers)
    const mtu = Math.min(this.#settings.mtu === 0 ? memberMtu(await this.#underlayMtus(peers, routes), encapsulation) : this.#settings.mtu, mostMtu - vxlanOverhead)
    const address = memberAddress(view.network.prefix, view.member)
    const configure = async (): Promise<void> => {
      await this.shutGate(pid1)
      await this.#batchInside(pid1, [
        ...insideLines('eth0'), ...insideLines(memberDevice),
        `addr add ${address}${view.network.prefix.replace(/.*\//, '/')} dev ${memberDevice}`, `link set ${memberDevice} up`,
        ...neighbourLines(view, peers), 'link set eth0 up', defaultRoute(address),
      ])
    }
    await this.#whole(pid1, encapsulation === 'vxlan'
      ? async () => {
          await this.#batch([...this.#outsideLines(pid1, address, mtu + vxlanOverhead), vxlanLine(pid1, view, this.#settings.vxlanPort, mtu)])
          await configure()
          await this.#commands.run([...this.#inside(pid1), this.#programs.bridge, '-batch', '-'], { input: forwardingLines(view, peers).join('\n') })
        }
      : async () => {
          await this.#batch([...this.#outsideLines(pid1, address), ...directLines(pid1, view, nodeMac, mtu)])
          await this.#removeStaleTables(directTable(pid1, view, peers, segmentFor(view, routes)))
          await configure()
        })
  }

  /**
   * Gives a namespace the addresses and routes of a sandbox, on devices that lead nowhere, and no TCP reaches its sockets: for a
   * restore that is thrown away.
   * @param prefixLength of the member's network; undefined for a run of one node
   */
  async imitate(pid1: HeldProcess, address: string, prefixLength: string | undefined): Promise<void> {
    // A pair whose other end stays down drops what it is given.
    const dead = (device: string): string[] => [`link add ${device} type veth peer name x${device}`, ...insideLines(device), `link set ${device} up`]
    const addresses = prefixLength === undefined ? [`addr add ${address}/32 dev eth0`] : [...dead(memberDevice), `addr add ${address}/${prefixLength} dev ${memberDevice}`]
    await this.#batchInside(pid1, [...dead('eth0'), ...addresses, defaultRoute(address)])
    await this.silence(pid1)
  }

  /** For a sandbox that an earlier daemon has connected: `disconnect` is to remove its devices. */
  adopt(pid1: HeldProcess): void {
    this.#connected.add(pid1)
  }

  /**
   * Removes the devices of a sandbox whose processes have ended: a TCP connection whose other side is silent keeps the namespace,
   * and so the run's address and VNI, for minutes (tcp_orphan_retries). Never the node's own, of net=host.
   */
  async disconnect(pid1: HeldProcess): Promise<void> {
    const descriptor = pid1.heldNetwork
    if (descriptor === undefined || !this.#connected.delete(pid1)) return
    // A run of one node has one of the two: -force goes on to the other.
    await this.#commands.run([this.#programs.nsenter, `--net=/proc/${process.pid}/fd/${descriptor}`, this.#programs.ip, '-force', '-batch', '-'], { input: `link delete eth0\nlink delete ${memberDevice}`, expected: [0, 1] })
  }

  /** From now on nothing passes between this member and the others. It may be shut already. */
  async shutGate(pid1: HeldProcess): Promise<void> {
    await new Gate(this.#commands, this.#programs, pid1).shut()
  }

  /** Lets members talk. It may be open already. */
  async openGate(pid1: HeldProcess): Promise<void> {
    await new Gate(this.#commands, this.#programs, pid1).open()
  }

  /** While sockets are restored: no TCP reaches them. It may be so already. */
  async silence(pid1: HeldProcess): Promise<void> {
    await new Gate(this.#commands, this.#programs, pid1).silence()
  }

  /** TCP reaches the sandbox's sockets. It may do so already. */
  async endSilence(pid1: HeldProcess): Promise<void> {
    await new Gate(this.#commands, this.#programs, pid1).endSilence()
  }

  async gateState(pid1: HeldProcess): Promise<GateState> {
    return new Gate(this.#commands, this.#programs, pid1).state()
  }

  /** @param roomFor what the node's end must have room for besides, bytes; the route keeps what comes in to the sandbox's end */
  #outsideLines(pid1: HeldProcess, address: string, roomFor = 0): string[] {
    const device = pairName(pid1)
    const mtu = this.#settings.mtu === 0 ? outsideMtu : this.#settings.mtu
    return [
      `link add ${device} mtu ${Math.max(mtu, roomFor)} address ${nodeMac} type veth peer name eth0 mtu ${mtu} address ${sandboxMac} netns ${pid1.proc}/ns/net`,
      `addr add ${gateway}/32 dev ${device}`,
      `link set ${device} up`,
      `neigh add ${address} lladdr ${sandboxMac} dev ${device} nud permanent`,
      `route add ${address}/32 dev ${device} mtu ${mtu}`,
    ]
  }

  /** `ip -json route get` of each peer. @throws StintError E_NETWORK for a peer without a route */
  async #routes(peers: readonly MemberPlace[]): Promise<string[]> {
    return Promise.all(peers.map(async ({ member, nodeAddress }) => {
      const route = await this.#commands.run([this.#programs.ip, '-json', 'route', 'get', nodeAddress], { expected: [0, 2] })
      if (route.exitCode !== 0) throw new StintError('E_NETWORK', `no route to ${nodeAddress} of member ${member}: ${route.stderr}`)
      return route.stdout
    }))
  }

  async #underlayMtus(peers: readonly MemberPlace[], routes: readonly string[]): Promise<number[]> {
    const links = await this.#commands.run([this.#programs.ip, '-json', 'link', 'show'])
    return peers.map((peer, at) => underlayMtu(peer, routes[at] ?? '[]', links.stdout))
  }

  /** Of members whose sandboxes have ended. @param andThen more for nft */
  async #removeStaleTables(andThen = ''): Promise<void> {
    const { stdout } = await this.#commands.run([this.#programs.nft, 'list', 'tables', 'netdev'])
    // Not /sys, which may be another namespace's.
    const devices = new Set(Array.from(readFileSync('/proc/self/net/dev', 'utf8').matchAll(/^ *([^:]+):/gm), ([, name = '']) => name))
    const lines = [...staleTables(stdout, devices), andThen].join('\n')
    if (lines !== '') await this.#commands.run([this.#programs.nft, '-f', '-'], { input: lines })
  }

  /** Makes all of it or nothing; what a sandbox that has just ended still holds is waited for. */
  async #whole(pid1: HeldProcess, make: () => Promise<void>): Promise<void> {
    const end = Date.now() + releaseSeconds * 1000
    for (;;) {
      try {
        await make()
        this.#connected.add(pid1)
        return
      } catch (error) {
        await this.#remove(pid1)
        if (!isTaken(error)) throw error
        if (Date.now() > end) throw new StintError('E_BUSY', "another sandbox on this node has this run's virtual address or VNI", { cause: error })
      }
      await sleep(100)
    }
  }

  /** Takes back what a failed connection has made. A sandbox that is gone has taken its devices with it. */
  async #remove(pid1: HeldProcess): Promise<void> {
    await this.#commands.run([this.#programs.ip, 'link', 'delete', pairName(pid1)], { expected: [0, 1] })
    if (pid1.isAlive) await this.#commands.run([...this.#inside(pid1), this.#programs.ip, 'link', 'delete', memberDevice], { expected: [0, 1] })
  }

  #inside(pid1: HeldProcess): [string, ...string[]] {
    return [this.#programs.nsenter, ...pid1.enter('net')]
  }

  async #batch(lines: readonly string[]): Promise<void> {
    await this.#commands.run([this.#programs.ip, '-batch', '-'], { input: lines.join('\n') })
  }

  async #batchInside(pid1: HeldProcess, lines: readonly string[]): Promise<void> {
    await this.#commands.run([...this.#inside(pid1), this.#programs.ip, '-batch', '-'], { input: ['link set lo up', ...lines].join('\n') })
  }
}

/** What a program reads that has been started before it was known; the end of it where it never is. */
function later(...parts: Promise<readonly string[]>[]): AsyncIterable<string> {
  const texts = parts.map(async (part) => part.then((lines) => lines.join('\n'), () => undefined))
  return (async function* () {
    for (const text of texts) {
      const known = await text
      if (known === undefined) return
      yield known
    }
  })()
}

/** No IPv6 address that comes by itself: MPI takes every address of a device for a way to a peer. */
function insideLines(device: string): string[] {
  return existsSync('/proc/sys/net/ipv6') ? [`link set ${device} addrgenmode none`] : []
}

/** @throws StintError E_NETWORK where it is not so: the nodes do not agree on what is between them */
function segmentFor({ member }: MemberNetwork, routes: readonly string[]): string {
  const device = segmentOf(routes)
  if (device !== undefined) return device
  throw new StintError('E_NETWORK', `the nodes of the other members are not on one segment with member ${member}'s, and network.encapsulation is "none"`, {
    hint: 'Set network.encapsulation = "vxlan", or "auto", in stint.toml on all nodes.',
  })
}

function defaultRoute(address: string): string {
  return `route add default via ${gateway} dev eth0 onlink src ${address}`
}
