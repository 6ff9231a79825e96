import { writeFileSync } from 'node:fs'
import type { CommandRunner } from './command.ts'

/** The sandbox's next hop: the same link-local address on the node's end of every pair. */
const gateway = '169.254.1.1'

export interface NetworkPrograms {
  readonly ip: string
  readonly nft: string
  readonly nsenter: string
}

/**
 * A run's private network on this node: a veth pair whose far end lies in the sandbox with the member's virtual address,
 * and NAT to the outside. The pair vanishes with the sandbox's namespace, so there is nothing to remove.
 */
export class SandboxNetwork {
  readonly #commands: CommandRunner
  readonly #programs: NetworkPrograms
  readonly #pool: string
  readonly #mtu: number

  constructor(commands: CommandRunner, programs: NetworkPrograms, pool: string, mtu: number) {
    this.#commands = commands
    this.#programs = programs
    this.#pool = pool
    this.#mtu = mtu
  }

  /** Once per daemon start: forwarding, and one table of ours that masquerades the pool. */
  async prepareNode(): Promise<void> {
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    const table = [
      'add table ip stint',
      'delete table ip stint',
      'table ip stint {',
      '  chain postrouting {',
      '    type nat hook postrouting priority srcnat; policy accept;',
      `    ip saddr ${this.#pool} ip daddr != ${this.#pool} masquerade`,
      '  }',
      '  chain forward {',
      // Runs share the pool but not each other's addresses: no traffic from sandbox to sandbox through the node. Who routes
      // the pool to this node does not get in either: a sandbox opens its connections itself.
      '    type filter hook forward priority filter; policy accept;',
      `    ip saddr ${this.#pool} ip daddr ${this.#pool} drop`,
      `    ip daddr ${this.#pool} ct state new drop`,
      '  }',
      '}',
    ].join('\n')
    await this.#commands.run([this.#programs.nft, '-f', '-'], { input: table })
  }

  /** @param pid1 the sandbox's PID 1, whose network namespace is still empty */
  async connect(pid1: number, address: string): Promise<void> {
    const device = `st${pid1}`
    const outside = [
      `link add ${device} mtu ${this.#mtu} type veth peer name eth0 mtu ${this.#mtu} netns ${pid1}`,
      `addr add ${gateway}/32 dev ${device}`,
      `link set ${device} up`,
      `route add ${address}/32 dev ${device}`,
    ]
    const inside = ['link set lo up', `addr add ${address}/32 dev eth0`, 'link set eth0 up', `route add default via ${gateway} dev eth0 onlink src ${address}`]
    await this.#commands.run([this.#programs.ip, '-batch', '-'], { input: outside.join('\n') })
    await this.#commands.run([this.#programs.nsenter, `--net=/proc/${pid1}/ns/net`, this.#programs.ip, '-batch', '-'], { input: inside.join('\n') })
  }
}
