import type { CommandRunner } from './command.ts'
import type { HeldProcess } from './held-process.ts'

/** The device of a run's private network, as it is called in every sandbox. */
export const memberDevice = 'stint0'

const table = 'netdev stint_gate'
/** Says that the table is gone, whether it was there or not: nft before 1.0.8 has no `destroy`. */
const opened = [`add table ${table}`, `delete table ${table}`]

/** A MAC that no member has, and so no node is known for. */
export const nobody = '02:53:00:00:00:00'

/**
 * What arrives is dropped at the device. What leaves is addressed to nobody, and the device drops it in silence: the sender
 * believes it sent, and TCP sends again. No drop there may show: dropped in the output hook, datagrams end in EPERM; dropped
 * by a rule at the device, TCP takes it for a full queue, probes twice a second, and gives a connection up after
 * tcp_retries2 probes, 8 seconds.
 */
const shut = [
  ...opened,
  `table ${table} {`,
  `  chain arriving { type filter hook ingress device "${memberDevice}" priority filter; policy drop; }`,
  `  chain leaving { type filter hook egress device "${memberDevice}" priority filter; policy accept; ether daddr set ${nobody}; }`,
  '}',
]

/** The mark of packets that CRIU makes in a peer's name (SOCCR_MARK of CRIU's soccr.h). */
const criuMark = '0xc114'
const silenceTable = 'inet stint_restore'
/** Says that the table is gone, as above. */
const audible = [`add table ${silenceTable}`, `delete table ${silenceTable}`]

/**
 * While sockets are restored no segment of TCP reaches one, loopback included, but those that CRIU makes: it sends on what was not
 * sent yet as soon as a socket stands, and a segment that comes before its peer's socket does is answered by a reset.
 */
const silent = [
  ...audible,
  `table ${silenceTable} {`,
  `  chain arriving { type filter hook input priority filter; policy accept; meta l4proto tcp meta mark != ${criuMark} drop; }`,
  '}',
]

export type GateState = 'open' | 'shut'

/**
 * The gate of one member: a table of ours in the sandbox's network namespace, which vanishes with it. Whoever shuts a
 * gate that is shut, or opens one that is open, changes nothing.
 */
export class Gate {
  readonly #commands: CommandRunner
  readonly #nft: readonly [string, ...string[]]

  /** @param pid1 the sandbox's PID 1 @throws StintError E_NOT_RUNNING when it has ended, E_NOT_VERIFIED when its network is the node's own */
  constructor(commands: CommandRunner, programs: { readonly nsenter: string; readonly nft: string }, pid1: HeldProcess) {
    this.#commands = commands
    this.#nft = [programs.nsenter, ...pid1.enter('net'), programs.nft]
  }

  /** @throws StintError E_COMMAND_FAILED also where there is no such device, or the kernel is older than 5.16 */
  async shut(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: shut.join('\n') })
  }

  /** @throws StintError E_COMMAND_FAILED */
  async open(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: opened.join('\n') })
  }

  /** No TCP reaches the sandbox's sockets; sandboxes with a network of their own only. It may be so already. @throws StintError E_COMMAND_FAILED */
  async silence(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: silent.join('\n') })
  }

  /** TCP passes again: what was lost meanwhile is sent again. @throws StintError E_COMMAND_FAILED */
  async endSilence(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: audible.join('\n') })
  }

  /** @throws StintError E_COMMAND_FAILED */
  async state(): Promise<GateState> {
    const { stdout } = await this.#commands.run([...this.#nft, 'list', 'tables'])
    return stdout.split('\n').includes(`table ${table}`) ? 'shut' : 'open'
  }
}
