import { execa } from 'execa'
import { createInterface } from 'node:readline'
import { clusterCommand, on } from './cluster.ts'
import type { Order, Outcome } from './peer-client.ts'

/** Programs on nodes of the virtual cluster that tests of the way between daemons talk to. */

interface Program {
  readonly lines: AsyncIterator<string, undefined>
  readonly write: (line: string) => void
  /** Closes its input and tells how it ended. */
  readonly end: () => Promise<{ exitCode: number | undefined; stderr: string }>
}

function startOn(node: string, program: string, argument: string): Program {
  const child = execa(clusterCommand, ['exec', node, '--', '/opt/stint/node_modules/.bin/node', `/opt/stint/tests/support/${program}.ts`, argument], { reject: false, buffer: { stdout: false } })
  return {
    lines: createInterface({ input: child.stdout })[Symbol.asyncIterator](),
    write: (line) => { child.stdin.write(`${line}\n`) },
    end: async () => {
      child.stdin.end()
      const { exitCode, stderr } = await child
      return { exitCode, stderr }
    },
  }
}

/** A stand-in for stintd on a node, serving the socket until it is disposed of. */
export async function standInOn(node: string, socketPath: string): Promise<AsyncDisposable> {
  const program = startOn(node, 'stand-in-peer', socketPath)
  const first = await program.lines.next()
  if (first.value !== 'listening') throw new Error(`stand-in on ${node}: ${(await program.end()).stderr}`)
  return { [Symbol.asyncDispose]: async () => { await program.end() } }
}

export type Config = Readonly<Record<string, Readonly<Record<string, unknown>>>>

/** The product's `Peers` on a node. */
export class PeerClient implements AsyncDisposable {
  readonly #program: Program
  readonly #waiting = new Map<number, (outcome: Outcome) => void>()
  #ids = 0

  constructor(node: string, config: Config) {
    this.#program = startOn(node, 'peer-client', JSON.stringify(config))
    void this.#listen()
  }

  async #listen(): Promise<void> {
    for (;;) {
      const line: IteratorResult<string, undefined> = await this.#program.lines.next()
      if (line.done === true) return
      const outcome = JSON.parse(line.value) as Outcome
      this.#waiting.get(outcome.id)?.(outcome)
    }
  }

  /** An order under way; `abort` takes it back. */
  send(order: { verb: 'connect'; node: string } | { verb?: 'request'; node: string; method?: 'GET' | 'POST'; path: string; body?: unknown; timeoutSeconds?: number }): { outcome: Promise<Outcome>; abort: () => void } {
    const id = this.#ids++
    const { promise: outcome, resolve } = Promise.withResolvers<Outcome>()
    this.#waiting.set(id, resolve)
    this.#program.write(JSON.stringify({ id, verb: 'request', method: 'GET', ...order } satisfies Order | object))
    return { outcome, abort: () => { this.#program.write(JSON.stringify({ id, verb: 'abort' } satisfies Order)) } }
  }

  async get(node: string, path: string, timeoutSeconds?: number): Promise<Outcome> {
    return this.send({ node, path, ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }) }).outcome
  }

  /** Disposes of the peers; what is under way has its outcome then. */
  async end(): Promise<{ exitCode: number | undefined; stderr: string }> {
    return this.#program.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
  }
}

/** One more sshd on a node while `work` is under way; its options are those of sshd(8). */
export async function withSshd<T>(node: string, port: number, options: string, work: () => Promise<T>): Promise<T> {
  const pidFile = `/run/sshd-${port}.pid`
  await on(node, `/usr/sbin/sshd -p ${port} -o PidFile=${pidFile} ${options} && until [ -s ${pidFile} ]; do sleep 0.05; done`)
  try {
    return await work()
  } finally {
    await on(node, `kill -KILL $(pgrep -P $(cat ${pidFile})) $(cat ${pidFile})`)
  }
}
