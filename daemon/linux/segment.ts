import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatIpv4, parseIpv4 } from '../core/addresses.ts'
import type { CommandRunner } from './command.ts'
import { segmentOf } from './run-network.ts'

/**
 * Addresses of a test packet: the first block's own address and its broadcast, which no member has. Only root can send with such a
 * source; a sandbox's packets have its own.
 */
export function probeAddresses(pool: string): { readonly source: string; readonly target: string } {
  const base = parseIpv4(pool.replace(/\/.*/, ''))
  return { source: formatIpv4(base), target: formatIpv4(base + 255) }
}

/** Rules of the node's table that note the port of every test packet that arrives, for a minute. */
export function probeRules(pool: string): string[] {
  const { source, target } = probeAddresses(pool)
  return [
    '  set probes {',
    '    type inet_service; flags dynamic, timeout; timeout 1m; size 65536;',
    '  }',
    // Before the node's routing, which would drop an address that comes from the wrong side (rp_filter).
    '  chain prerouting {',
    '    type filter hook prerouting priority raw; policy accept;',
    `    ip saddr ${source} ip daddr ${target} meta l4proto udp update @probes { udp dport } drop`,
    '  }',
  ]
}

/** Where a test packet goes: the node's address, and the port that it is known by there. */
export interface ProbeTarget {
  readonly address: string
  readonly port: number
}

/** Rules that turn what this daemon sends to the targets into test packets, as they leave the device. */
function disguise(table: string, device: string, from: number, targets: readonly ProbeTarget[], pool: string): string {
  const { source, target } = probeAddresses(pool)
  return [
    `table netdev ${table} {`,
    '  chain leaving {',
    `    type filter hook egress device "${device}" priority filter; policy accept;`,
    `    udp sport ${from} ip daddr . udp dport { ${targets.map(({ address, port }) => `${address} . ${port}`).join(', ')} } ip saddr set ${source} ip daddr set ${target}`,
    '  }',
    // Nothing comes here: a kernel without what members' tables need refuses this one, and the test with it.
    '  chain unused {',
    `    fwd ip to ip daddr map { ${target} : ${source} } device "${device}"`,
    '  }',
    '}',
  ].join('\n')
}

/**
 * Whether the network between nodes carries packets with members' addresses as they are. Networks of clouds drop what comes from an
 * address that is not the machine's, and no setting of the node tells; so it is tried, with packets that look like members'.
 */
export class Segment {
  readonly #commands: CommandRunner
  readonly #programs: { readonly ip: string; readonly nft: string }
  readonly #pool: string
  /** What was found between nodes, by their addresses; the text is why not. */
  readonly #found = new Map<string, { readonly why: string | undefined; readonly until: number }>()

  constructor(commands: CommandRunner, programs: { readonly ip: string; readonly nft: string }, pool: string) {
    this.#commands = commands
    this.#programs = programs
    this.#pool = pool
  }

  /** The device whose segment has all these nodes; undefined where there is none. */
  async device(addresses: readonly string[]): Promise<string | undefined> {
    const routes = await Promise.all(addresses.map((address) => this.#commands.run([this.#programs.ip, '-json', 'route', 'get', address], { expected: [0, 2] })))
    return routes.every(({ exitCode }) => exitCode === 0) ? segmentOf(routes.map(({ stdout }) => stdout)) : undefined
  }

  /**
   * Sends test packets, and waits for `act`: what has not left by its end (a neighbour is not known yet) is lost.
   * @throws StintError E_COMMAND_FAILED
   */
  async probe<T>(device: string, targets: readonly ProbeTarget[], act: () => Promise<T>): Promise<T> {
    const socket = createSocket('udp4')
    await new Promise<void>((resolve, reject) => { socket.once('error', reject).bind(0, resolve) })
    const { port } = socket.address()
    const table = `stint_probe_${port}`
    try {
      await this.#commands.run([this.#programs.nft, '-f', '-'], { input: disguise(table, device, port, targets, this.#pool) })
      for (let sent = 0; sent < 3; sent++) {
        await Promise.all(targets.map((target) => new Promise<void>((resolve, reject) => {
          socket.send('stint', target.port, target.address, (error) => { if (error === null) resolve(); else reject(error) })
        })))
      }
      return await act()
    } finally {
      socket.close()
      await this.#commands.run([this.#programs.nft, 'delete', 'table', 'netdev', table], { expected: [0, 1] })
    }
  }

  /** Whether test packets with all these ports have arrived. @param seconds to wait for them */
  async heard(ports: readonly number[], seconds: number): Promise<boolean> {
    for (const end = Date.now() + seconds * 1000; ;) {
      const { stdout } = await this.#commands.run([this.#programs.nft, '--numeric', 'list', 'set', 'ip', 'stint', 'probes'])
      const arrived = heardPorts(stdout)
      if (ports.every((port) => arrived.has(port))) return true
      if (Date.now() > end) return false
      await sleep(50)
    }
  }

  /** What `find` finds, or found lately: an hour ago where packets pass, ten minutes where not. @param find answers why not */
  async remembered(addresses: readonly string[], find: () => Promise<string | undefined>): Promise<string | undefined> {
    const key = addresses.toSorted().join()
    const known = this.#found.get(key)
    if (known !== undefined && known.until > Date.now()) return known.why
    for (const [old, { until }] of this.#found) if (until <= Date.now()) this.#found.delete(old)
    const why = await find()
    this.#found.set(key, { why, until: Date.now() + (why === undefined ? 3600_000 : 600_000) })
    return why
  }
}

/** @param set output of `nft list set` */
export function heardPorts(set: string): Set<number> {
  return new Set(Array.from(set.slice(set.indexOf('elements')).matchAll(/(\d+)(?: timeout \S+)? expires/g), ([, port]) => Number(port)))
}
