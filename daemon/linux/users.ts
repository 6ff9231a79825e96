import { setTimeout as sleep } from 'node:timers/promises'
import type { CommandRunner } from './command.ts'

/** How long a directory server (LDAP, SSSD) may take: a job's start waits for it. */
const timeoutSeconds = 2

/** How long a name is remembered, and how long it is not asked for again after the look-up has failed, milliseconds. */
const rememberedMs = 600_000
const failedMs = 30_000

/** Who has left a group must not reach its files by a restore for long, milliseconds. */
const groupsRememberedMs = 60_000

interface Known { readonly name: Promise<string>; until: number }

/** Login names as the system's look-up has them (nsswitch.conf): names are for people, rights go by uid. */
export class Users {
  readonly #commands: CommandRunner
  readonly #getent: string
  readonly #known = new Map<number, Known>()
  readonly #groups = new Map<string, { readonly groups: readonly number[]; readonly until: number }>()

  constructor(commands: CommandRunner, getent: string) {
    this.#commands = commands
    this.#getent = getent
  }

  /** The login name of a uid, or the number where there is none or the look-up fails; never throws, and takes 3 s at most. */
  async nameOf(uid: number): Promise<string> {
    const known = this.#known.get(uid)
    if (known !== undefined && Date.now() < known.until) return known.name
    // A look-up that hangs in the kernel cannot be killed.
    const found = Promise.race([this.#lookUp(uid), sleep((timeoutSeconds + 1) * 1000, { name: String(uid), isFailed: true }, { ref: false })])
    const entry: Known = { name: found.then(({ name }) => name), until: Date.now() + rememberedMs }
    this.#known.set(uid, entry)
    if ((await found).isFailed) entry.until = Date.now() + failedMs
    return entry.name
  }

  /** Supplementary groups as a new login would have them, remembered for a minute. @param name a login name @throws StintError E_COMMAND_FAILED */
  async groupsOf(name: string): Promise<readonly number[]> {
    const known = this.#groups.get(name)
    if (known !== undefined && Date.now() < known.until) return known.groups
    const { stdout } = await this.#commands.run([this.#getent, 'initgroups', name], { timeoutSeconds, expected: [0, 2] })
    const groups = stdout.trim().split(/\s+/).slice(1).map(Number)
    this.#groups.set(name, { groups, until: Date.now() + groupsRememberedMs })
    return groups
  }

  async #lookUp(uid: number): Promise<{ name: string; isFailed: boolean }> {
    try {
      // 2: no such user.
      const { stdout } = await this.#commands.run([this.#getent, 'passwd', String(uid)], { timeoutSeconds, expected: [0, 2] })
      const [name = '', , number] = stdout.split('\n')[0]?.split(':') ?? []
      // getent takes what it is given for a login name first, which may be a number.
      return { name: number === String(uid) && name !== '' ? name : String(uid), isFailed: false }
    } catch { // @NOTE The runner has logged it; a name is never worth a job's start.
      return { name: String(uid), isFailed: true }
    }
  }
}
