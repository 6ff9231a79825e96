import type { CommandRunner } from './command.ts'

/** The device of a run's private network, as it is called in every sandbox. */
export const memberDevice = 'stint0'

const table = 'netdev stint_gate'
/** Says that the table is gone, whether it was there or not: nft before 1.0.8 has no `destroy`. */
const opened = [`add table ${table}`, `delete table ${table}`]

/**
 * Drops at the device itself, in both directions. What leaves is so dropped as by a full queue: TCP tries again every
 * half second, however long the gate is shut, and datagrams are lost without an error. A rule in the output hook
 * would end in EPERM for datagrams, and TCP would wait ever longer, and so on after the gate is open.
 */
const shut = [
  ...opened,
  `table ${table} {`,
  `  chain arriving { type filter hook ingress device "${memberDevice}" priority filter; policy drop; }`,
  `  chain leaving { type filter hook egress device "${memberDevice}" priority filter; policy drop; }`,
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

  /** @param pid1 the sandbox's PID 1 */
  constructor(commands: CommandRunner, programs: { readonly nsenter: string; readonly nft: string }, pid1: number) {
    this.#commands = commands
    this.#nft = [programs.nsenter, `--net=/proc/${pid1}/ns/net`, programs.nft]
  }

  /** @throws StintError E_COMMAND_FAILED also where there is no such device, or the kernel is older than 5.16 */
  async shut(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: shut.join('\n') })
  }

  /** @throws StintError E_COMMAND_FAILED */
  async open(): Promise<void> {
    await this.#commands.run([...this.#nft, '-f', '-'], { input: opened.join('\n') })
  }

  /** @throws StintError E_COMMAND_FAILED */
  async state(): Promise<GateState> {
    const { stdout } = await this.#commands.run([...this.#nft, 'list', 'tables'])
    return stdout.split('\n').includes(`table ${table}`) ? 'shut' : 'open'
  }
}
