import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Sandbox } from '../../daemon/context.ts'
import { servePeerApi } from '../../daemon/http/peer-api.ts'
import { HeldProcess } from '../../daemon/linux/held-process.ts'
import { PosixStore } from '../../plugins/stores/posix/store.ts'
import type { Engine } from '../../plugins/engines/engine.ts'
import { makeContext, type TestContext } from '../support/context.ts'

/**
 * A node's stintd for measurements of what coordination costs: the product's own code with a real sandbox of one sleeping
 * process, but an engine that only takes its time, and no file of the payload to carry.
 * Usage: stand-in-member MEMBER SOCKET STORE SECONDS; ends with its input
 */

export const job = 5

/** Dumps nothing, in so many seconds, by a process of its own as an engine is. */
function sleepingEngine(seconds: number): Engine {
  const never = async (): Promise<never> => Promise.reject(new Error('a stand-in restores nothing'))
  return {
    name: 'stand-in',
    version: async () => Promise.resolve('0'),
    startDump: async () => {
      const child = spawn('sleep', [String(seconds)], { stdio: 'ignore' })
      const done = async (): Promise<void> => Promise.resolve()
      return Promise.resolve({ pid: child.pid ?? 0, prepared: once(child, 'exit').then(() => ({ commit: done, abort: done })), stop: () => undefined })
    },
    unmended: async () => Promise.resolve({ loaded: true, missing: [] }),
    deletedNames: never,
    startRestore: never,
    identities: never,
    forgetSizes: async () => Promise.resolve(),
    assertFits: async () => Promise.resolve(),
    answerOrphan: never,
  }
}

interface Payload extends AsyncDisposable {
  readonly pid1: HeldProcess
}

/** A PID namespace with a process 1000 that sleeps, as a payload's root. */
async function startPayload(): Promise<Payload> {
  const script = 'echo 999 > /proc/sys/kernel/ns_last_pid; sleep infinity </dev/null >/dev/null 2>&1 & echo ready; exec cat'
  const child = spawn('unshare', ['--pid', '--mount-proc', '--fork', '--kill-child', 'sh', '-c', script], { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const [pid1 = ''] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ')
  return {
    pid1: HeldProcess.open(Number(pid1)),
    [Symbol.asyncDispose]: async () => {
      child.stdin.end()
      await once(child, 'exit')
    },
  }
}

export interface Member extends AsyncDisposable {
  readonly made: TestContext
  readonly sandbox: Sandbox
}

/** What this node has of a run: a context and a live sandbox of the member. */
export async function startMember(member: number, storePath: string, seconds: number): Promise<Member> {
  await using stack = new AsyncDisposableStack()
  const payload = stack.use(await startPayload())
  const plain = stack.use(makeContext())
  const { config } = plain.context
  const context = {
    ...plain.context, node: `m${member}`, engine: sleepingEngine(seconds), store: new PosixStore(storePath),
    config: { ...config, programs: { ...config.programs, nsenter: '/usr/bin/true' } },
  }
  const opened = plain.addSandbox(job)
  const sandbox: Sandbox = { ...opened, run: { ...opened.run, script: '' }, pid1: payload.pid1, member }
  context.sandboxes.set(job, sandbox)
  const disposing = stack.move()
  return { made: { ...plain, context }, sandbox, [Symbol.asyncDispose]: async () => disposing.disposeAsync() }
}

if (import.meta.main) {
  const [member, socketPath = '', storePath = '', seconds] = process.argv.slice(2)
  await using stack = new AsyncDisposableStack()
  const { context } = stack.use(await startMember(Number(member), storePath, Number(seconds))).made
  stack.use(await servePeerApi({ ...context, config: { ...context.config, paths: { ...context.config.paths, peer_socket: socketPath } } }))
  process.stdout.write('ready\n')
  await once(createInterface({ input: process.stdin }), 'close')
}
