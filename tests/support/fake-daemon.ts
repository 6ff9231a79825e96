import { execa } from 'execa'
import { clusterCommand, fixtures, on, until } from './cluster.ts'

/** What the stand-in has heard on its node. */
export const fakeDaemonLog = '/run/stint-fake.log'

function spawnStandIn(node: string, behaviour: string, words: readonly string[]) {
  return execa(clusterCommand, ['exec', node, '--', 'python3', `${fixtures}/programs/fake-daemon.py`, behaviour, fakeDaemonLog, ...words], { reject: false, stdin: 'pipe' })
}

type StandIn = ReturnType<typeof spawnStandIn>

/** A stand-in for the daemon of the node, until it is disposed of. */
export class FakeDaemon implements AsyncDisposable {
  readonly #node: string
  readonly #process: StandIn

  private constructor(node: string, process: StandIn) {
    this.#node = node
    this.#process = process
  }

  static async start(node: string, behaviour: string, ...words: string[]): Promise<FakeDaemon> {
    await on(node, `rm -f ${fakeDaemonLog} /run/stint/sandbox.sock`)
    const process = spawnStandIn(node, behaviour, words)
    await until('the stand-in listens', 10, async () => (await on(node, 'ss -Hxl src /run/stint/sandbox.sock')) !== '')
    return new FakeDaemon(node, process)
  }

  /** Sends a line to the guard. */
  say(line: string): void {
    this.#process.stdin.write(`${line}\n`)
  }

  async heard(): Promise<string> {
    return on(this.#node, `cat ${fakeDaemonLog} 2>/dev/null || true`)
  }

  /** Waits for a line of the plugin or guard that matches. */
  async untilHeard(pattern: RegExp): Promise<void> {
    await until(`the stand-in hears ${pattern}`, 20, async () => pattern.test(await this.heard()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill()
    await this.#process
    await on(this.#node, 'rm -f /run/stint/sandbox.sock')
  }
}
