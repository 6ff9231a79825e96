import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { word } from '../../daemon/core/wire.ts'
import { buildHelpers, soon } from '../support/helpers.ts'
import { commandBody, PostOffice } from '../support/post-office.ts'

/** The remote shell of MPI launchers, with a stand-in for the daemon's post office. */

const minute = 60_000
let helpers: string
let folder: string
let post: PostOffice

beforeAll(async () => { helpers = await buildHelpers() }, 2 * minute)
afterAll(() => { rmSync(helpers, { recursive: true }) })
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stint-post-'))
  post = new PostOffice(join(folder, 'post.sock'))
  await post.open()
})
afterEach(async () => {
  await post[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

/** An agent that has been started, and what it has said. */
class Agent implements Disposable {
  readonly process: ChildProcess
  out = ''
  err = ''

  constructor(args: readonly string[] = ['n2', 'true'], environment: Record<string, string> = {}) {
    this.process = spawn(join(helpers, 'stint-agent'), args, { cwd: folder, env: { STINT_POST: post.path, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
    this.process.stdout?.on('data', (chunk: Buffer) => { this.out += chunk.toString() })
    this.process.stderr?.on('data', (chunk: Buffer) => { this.err += chunk.toString() })
  }

  async ended(): Promise<number | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'close')
    return this.process.exitCode
  }

  wake(): void {
    this.process.kill('SIGURG')
  }

  async waits(): Promise<void> {
    await soon('it waits', () => post.heard.at(-1)?.verb === 'news' && post.connections.size === 0)
  }

  [Symbol.dispose](): void {
    this.process.kill('SIGKILL')
  }
}

const launches = () => post.heard.filter((request) => request.verb === 'launch')

describe('what it is told', () => {
  test.each([
    [['n2', 'true'], 'n2', 'true'],
    [['-x', 'n2', '/usr/bin/proxy', '--control-port', 'n1:5', '--rmk', 'user'], 'n2', '/usr/bin/proxy --control-port n1:5 --rmk user'],
    [['-q', '-oBatchMode=yes', '-l', 'alice', '-p', '22', 'n2', '-x', 'PATH=/x:$PATH ; export PATH ; /usr/bin/prted -x'], 'n2', 'PATH=/x:$PATH ; export PATH ; /usr/bin/prted -x'],
    [['alice@n2', 'a', 'b c'], 'n2', 'a b c'],
  ])('%j is understood as by ssh', async (args, host, command) => {
    using agent = new Agent(args, { A: 'b c' })
    await agent.waits()
    const [launch] = launches()
    expect(word(launch ?? { verb: '', words: new Map() }, 'host')).toBe(host)
    expect(launch?.body.toString()).toBe(commandBody(command, folder, [`STINT_POST=${post.path}`, 'A=b c']).toString())
  })

  test.each([[[]], [['n2']], [['-Z', 'n2', 'true']], [['-l']]])('%j is refused with exit 255', async (args) => {
    const result = await execa(join(helpers, 'stint-agent'), args, { reject: false })
    expect(result.exitCode).toBe(255)
    expect(result.stderr).not.toBe('')
  })
})

describe('the command', () => {
  test.each([[0, 0], [7 << 8, 7], [255 << 8, 255], [9, 255], [15, 255]])('that ends with wait status %d ends it with %d', async (status, code) => {
    using agent = new Agent()
    await agent.waits()
    Object.assign(post.post(1), { out: Buffer.from('out\n'), err: Buffer.from('err\n'), status })
    agent.wake()
    expect(await agent.ended()).toBe(code)
    expect([agent.out, agent.err]).toEqual(['out\n', 'err\n'])
  })

  test('has much to say: all comes through, in order, in pieces', async () => {
    const text = Array.from({ length: 50_000 }, (_, i) => `${i}\n`).join('')
    using agent = new Agent()
    await agent.waits()
    Object.assign(post.post(1), { out: Buffer.from(text), err: Buffer.from('end\n'), status: 0 })
    agent.wake()
    expect(await agent.ended()).toBe(0)
    expect(agent.out === text).toBe(true)
    expect(agent.err).toBe('end\n')
  })

  test('gets the signals the agent gets; the agent stays until the end', async () => {
    using agent = new Agent()
    await agent.waits()
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) agent.process.kill(signal)
    await soon('all are passed on', () => post.verbs().filter((verb) => verb === 'signal').length === 6)
    expect(post.heard.filter((r) => r.verb === 'signal').map((r) => Number(word(r, 'number'))).sort((a, b) => a - b)).toEqual([1, 2, 3, 10, 12, 15])
    post.post(1).status = 3 << 8
    agent.wake()
    expect(await agent.ended()).toBe(3)
  })

  test('does not get those that are ignored', async () => {
    const child = spawn('/bin/sh', ['-c', 'trap "" HUP; exec "$0" n2 true', join(helpers, 'stint-agent')], { env: { STINT_POST: post.path }, stdio: 'ignore' })
    await soon('it waits', () => post.verbs().includes('news') && post.connections.size === 0)
    child.kill('SIGHUP')
    child.kill('SIGUSR1')
    await soon('one is passed on', () => post.verbs().includes('signal'))
    expect(post.heard.filter((r) => r.verb === 'signal').map((r) => word(r, 'number'))).toEqual(['10'])
    child.kill('SIGKILL')
  })

  test('is lost when the daemon knows it no more', async () => {
    using agent = new Agent()
    await agent.waits()
    post.commands.clear()
    agent.wake()
    expect(await agent.ended()).toBe(255)
    expect(agent.err).toBe('stint-agent: the command was lost\n')
  })

  test('whose output nobody takes: no connection is held, and signals are passed on', async () => {
    const child = spawn(join(helpers, 'stint-agent'), ['n2', 'true'], { env: { STINT_POST: post.path }, stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.pause()
    await soon('it waits', () => post.verbs().includes('news') && post.connections.size === 0)
    Object.assign(post.post(1), { out: Buffer.alloc(2_000_000, 'x'), status: 0 })
    child.kill('SIGURG')
    await new Promise((done) => setTimeout(done, 700))
    expect(post.connections.size).toBe(0)
    child.kill('SIGTERM')
    await soon('it is passed on', () => post.verbs().includes('signal'))
    let bytes = 0
    child.stdout.on('data', (chunk: Buffer) => { bytes += chunk.length })
    child.stdout.resume()
    await once(child, 'close')
    expect([bytes, child.exitCode]).toEqual([2_000_000, 0])
  })

  test('whose output nobody can take ends it as ever', async () => {
    const child = spawn(join(helpers, 'stint-agent'), ['n2', 'true'], { env: { STINT_POST: post.path }, stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.destroy()
    await soon('it waits', () => post.verbs().includes('news') && post.connections.size === 0)
    Object.assign(post.post(1), { out: Buffer.alloc(200_000, 'x'), status: 4 << 8 })
    child.kill('SIGURG')
    expect((await once(child, 'exit'))[0]).toBe(4)
  })
})

describe('the daemon', () => {
  test('is asked nothing while nothing happens', async () => {
    using agent = new Agent()
    await agent.waits()
    await new Promise((done) => setTimeout(done, 500))
    expect(post.verbs()).toEqual(['launch', 'news'])
  })

  test('need not wake it: a lost wake is made good', async () => {
    using agent = new Agent(['n2', 'true'], { STINT_POST_PATIENCE: '1' })
    await agent.waits()
    post.post(1).status = 0
    expect(await agent.ended()).toBe(0)
  })

  test('that refuses is quoted', async () => {
    post.refusal = 'n9 is not a host of this job'
    using agent = new Agent()
    expect(await agent.ended()).toBe(255)
    expect(agent.err).toBe('stint-agent: n9 is not a host of this job\n')
  })

  test('that is absent is waited for', async () => {
    await post.close()
    using agent = new Agent()
    await new Promise((done) => setTimeout(done, 500))
    await post.open()
    await agent.waits()
  })

  test('that stays absent is given up; nothing was launched', async () => {
    await post.close()
    using agent = new Agent(['n2', 'true'], { STINT_POST_PATIENCE: '1' })
    expect(await agent.ended()).toBe(255)
    expect(agent.err).toBe('stint-agent: the daemon does not answer on this node\n')
  })

  test('that has not launched anything yet lets signals end it', async () => {
    await post.close()
    using agent = new Agent()
    await new Promise((done) => setTimeout(done, 200))
    agent.process.kill('SIGTERM')
    await agent.ended()
    expect(agent.process.signalCode).toBe('SIGTERM')
  })

  test('that was not heard launches once', async () => {
    let first = true
    post.fault = (request, socket) => {
      if (request.verb !== 'launch' || !first) return false
      first = false
      post.answer(request)
      socket.destroy()
      return true
    }
    using agent = new Agent()
    await agent.waits()
    expect([launches().length, post.launched.size]).toEqual([2, 1])
  })

  test('may be away for long once the command runs: nothing is lost or said twice', async () => {
    using agent = new Agent(['n2', 'true'], { STINT_POST_PATIENCE: '1' })
    await agent.waits()
    post.post(1).out = Buffer.from('one\n')
    agent.wake()
    await soon('it is said', () => agent.out === 'one\n')
    await post.close()
    agent.wake()
    await new Promise((done) => setTimeout(done, 2500))
    Object.assign(post.post(1), { out: Buffer.from('one\ntwo\n'), status: 0 })
    await post.open()
    expect(await agent.ended()).toBe(0)
    expect(agent.out).toBe('one\ntwo\n')
  })

  test.each([
    ['closes at once', ''],
    ['closes in mid-answer', 'running out=4 err=0 bytes=4\non'],
    ['answers garbage', '\0\x01 %zz\n\n\n'],
    ['never ends its line', 'a'.repeat(10_000)],
    ['sends more than was asked for', `running out=${1 << 20} err=0 bytes=${1 << 20}\n`],
    ['counts wrongly', 'running out=-4 err=8 bytes=4\nfour'],
  ])('that %s is asked again', async (_, bad) => {
    let faults = 2
    post.fault = (request, socket) => {
      if (request.verb !== 'news' || faults-- <= 0) return false
      socket.end(bad)
      return true
    }
    using agent = new Agent()
    await soon('it was asked', () => post.verbs().includes('launch'))
    Object.assign(post.post(1), { out: Buffer.from('fine\n'), status: 0 })
    agent.wake()
    expect(await agent.ended()).toBe(0)
    expect(agent.out).toBe('fine\n')
  })
})
