import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { word } from '../../daemon/core/wire.ts'
import { buildHelpers, soon } from '../support/helpers.ts'
import { PostOffice } from '../support/post-office.ts'

/** The launcher of a remote member, with a stand-in for the daemon's post office. */

const minute = 60_000
let helpers: string
let folder: string
let post: PostOffice
let launcher: ChildProcess

beforeAll(async () => { helpers = await buildHelpers() }, 2 * minute)
afterAll(() => { rmSync(helpers, { recursive: true }) })

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stint-post-'))
  post = new PostOffice(join(folder, 'post.sock'))
  await post.open()
})
afterEach(async () => {
  launcher.kill('SIGKILL')
  await post[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

function begin(environment: Record<string, string> = {}): void {
  launcher = spawn(join(helpers, 'stint-init'), ['launcher'], { env: { STINT_POST: post.path, STINT_JOB_ID: '7', ...environment }, stdio: 'ignore' })
}

async function ended(): Promise<(number | string | null)[]> {
  if (launcher.exitCode !== null || launcher.signalCode !== null) return [launcher.exitCode, launcher.signalCode]
  return await once(launcher, 'exit') as [number | null, string | null]
}

const wake = (): void => { launcher.kill('SIGURG') }
const waiting = async (): Promise<void> => soon('it waits', () => post.heard.at(-1)?.verb === 'work' && post.connections.size === 0)
const over = async (id: number): Promise<void> => soon(`command ${id} is over`, () => post.commands.get(id)?.status !== undefined)

/** Starts one command in a fresh launcher and waits for its end. */
async function run(command: string, options: { directory?: string; environment?: string[] } = {}): Promise<{ out: string; err: string; status: number | undefined }> {
  post.start(1, command, options)
  begin()
  await over(1)
  const { out, err, status } = post.post(1)
  return { out: out.toString(), err: err.toString(), status }
}

describe('a command', () => {
  test.each([
    ['true', 0],
    ['exit 7', 7 << 8],
    ['kill -KILL $$', 9],
    ['kill -TERM $$', 15],
    ['./nonexistent', 127 << 8],
  ])('"%s": its end is told as wait status %d', async (command, status) => {
    expect((await run(command)).status).toBe(status)
  })

  test('runs in the directory and with the environment that were sent; names of ours are those of this place', async () => {
    const { out } = await run('pwd; tr "\\n\\0" " \\n" < /proc/$$/environ | sort', { directory: folder, environment: ['PATH=/bin', 'A=b c\nd', 'STINT_JOB_ID=9', 'STINT_OTHER=x'] })
    expect(out).toBe(`${folder}\nA=b c d\nPATH=/bin\nSTINT_JOB_ID=7\nSTINT_POST=${post.path}\n`)
  })

  test('whose directory is not there runs in the root', async () => {
    expect((await run('pwd', { directory: '/nonexistent' })).out).toBe('/\n')
  })

  test('has a session of its own, no input, plain signals and nothing of the launcher open', async () => {
    const { out, err } = await run('ps -o sid= -p $$ | tr -d " "; echo $$; wc -c; grep -E "SigBlk|SigIgn" /proc/self/status; ls -m /proc/$$/fd')
    const plain = await execa('/bin/sh', ['-c', 'ls -m /proc/$$/fd'], { stdin: 'ignore' })
    const [session, pid, ...rest] = out.split('\n')
    expect(session).toBe(pid)
    expect(rest.slice(0, -2).join('\n')).toMatch(/^0\nSigBlk:\s0+\nSigIgn:\s0+$/)
    expect(rest.at(-2)).toBe(plain.stdout)
    expect(err).toBe('')
  })

  test('hands back both streams, each whole and in order', async () => {
    const { out, err } = await run('for i in $(seq 20000); do echo $i; done; for i in $(seq 20000); do echo e$i >&2; done')
    const numbers = Array.from({ length: 20_000 }, (_, i) => i + 1)
    expect(out === numbers.map((i) => `${i}\n`).join('')).toBe(true)
    expect(err === numbers.map((i) => `e${i}\n`).join('')).toBe(true)
  }, minute)

  test('that closes its output early has its end told when it ends', async () => {
    const began = Date.now()
    expect((await run('echo x; exec >&- 2>&-; sleep 1; exit 3')).status).toBe(3 << 8)
    expect(Date.now() - began).toBeGreaterThan(950)
  })

  test('whose children keep its output open is over a second after its end', async () => {
    const began = Date.now()
    expect(await run('echo x; (sleep 5; echo late) & exit 4')).toMatchObject({ out: 'x\n', status: 4 << 8 })
    expect(Date.now() - began).toBeGreaterThan(950)
    expect(Date.now() - began).toBeLessThan(4000)
  })

  test('gets signals with all its group', async () => {
    post.start(1, 'sh -c "trap \\"echo child; exit 1\\" TERM; echo ready; while :; do sleep 0.05; done" & trap "echo parent; wait; exit 5" TERM; wait')
    begin()
    await soon('it is ready', () => post.post(1).out.toString() === 'ready\n')
    post.signal(1, 15)
    wake()
    await over(1)
    expect(post.post(1).out.toString().split('\n').sort()).toEqual(['', 'child', 'parent', 'ready'])
    expect(post.post(1).status).toBe(5 << 8)
  })
})

describe('the daemon', () => {
  test('is asked for nothing while nothing happens, and a wake brings the next order', async () => {
    begin()
    await waiting()
    const requests = post.heard.length
    await new Promise((done) => setTimeout(done, 500))
    expect(post.heard).toHaveLength(requests)
    post.start(3, 'echo hello')
    wake()
    await over(3)
    expect(post.post(3).out.toString()).toBe('hello\n')
  })

  test('need not wake it: a lost wake is made good', async () => {
    begin({ STINT_POST_PATIENCE: '1' })
    await waiting()
    post.start(3, 'true')
    await over(3)
  })

  test('may be away: output waits within bounds, then comes whole and once', async () => {
    const count = join(folder, 'count')
    post.start(1, `i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf "%01023d\\n" $i; echo $i > ${count}; done`)
    post.fault = (request, socket) => {
      if (request.verb !== 'output') return false
      socket.destroy()
      return true
    }
    begin()
    await soon('it has output', () => post.verbs().includes('output'))
    await post.close()
    await new Promise((done) => setTimeout(done, 1500))
    // 16 KiB of the launcher's and the pipe's 64 KiB.
    expect(Number(readFileSync(count, 'utf8'))).toBeLessThan(82)
    post.fault = undefined
    await post.open()
    await over(1)
    expect(post.post(1).out.toString() === Array.from({ length: 300 }, (_, i) => `${String(i + 1).padStart(1023, '0')}\n`).join('')).toBe(true)
  }, minute)

  test.each([
    ['closes at once', ''],
    ['answers garbage', '\0\x01 %zz ===\n\n\n'],
    ['never ends its line', 'a'.repeat(10_000)],
    ['closes in the middle of a body', 'start seq=1 id=1 bytes=100\ntrue\0'],
    ['promises too much', 'start seq=0 id=1 bytes=99999999999\n'],
  ])('that %s is asked again, and an order is carried out once', async (_, bad) => {
    const marks = join(folder, 'marks')
    let faults = 3
    post.fault = (request, socket) => {
      if (request.verb !== 'work' || faults-- <= 0) return false
      socket.end(bad)
      return true
    }
    post.start(1, `echo x >> ${marks}`)
    begin()
    await over(1)
    await soon('it has asked for more', () => post.heard.some((r) => r.verb === 'work' && word(r, 'after') === '1'))
    expect(readFileSync(marks, 'utf8')).toBe('x\n')
  })

  test('that did not hear an end or some output is told again', async () => {
    let lost = 2
    post.fault = (request, socket) => {
      if (!['output', 'ended'].includes(request.verb) || lost-- <= 0) return false
      post.answer(request)
      socket.destroy()
      return true
    }
    expect(await run('echo one; echo two')).toMatchObject({ out: 'one\ntwo\n', status: 0 })
  })

  test('that knows a command no more is not asked about it for ever', async () => {
    post.fault = (request, socket) => {
      if (request.verb !== 'output') return false
      socket.end('unknown\n')
      return true
    }
    expect((await run('echo x')).status).toBe(0)
  })

  test('sees an order for a command too many refused', async () => {
    for (let id = 1; id <= 65; id++) post.start(id, 'sleep 60')
    begin()
    await over(65)
    expect(post.post(65).status).toBe(255 << 8)
    expect(post.post(65).err.toString()).toMatch(/^stint: the command could not be started: too many/)
    expect([...post.commands.keys()]).toEqual([65])
  }, minute)

  test('sees a body that makes no sense refused', async () => {
    post.start(1, 'true\0x', { environment: [] })
    let first = true
    post.fault = (request, socket) => {
      if (request.verb !== 'work' || !first) return false
      first = false
      socket.end('start seq=1 id=1 bytes=4\ntrue')
      return true
    }
    begin()
    await over(1)
    expect(post.post(1).status).toBe(255 << 8)
  })
})

describe('its own end', () => {
  test('comes with "quit", when its commands have ended', async () => {
    post.start(1, 'trap "echo bye; exit 1" TERM; echo ready; while :; do sleep 0.05; done')
    begin()
    await soon('it is ready', () => post.post(1).out.length > 0)
    post.quit()
    wake()
    expect(await ended()).toEqual([0, null])
    expect([post.post(1).out.toString(), post.post(1).status]).toEqual(['ready\nbye\n', 1 << 8])
  })

  test('comes with SIGTERM, which its commands get, too; never by the signal', async () => {
    post.start(1, 'trap "exit 1" TERM; echo ready; while :; do sleep 0.05; done')
    begin()
    await soon('it is ready', () => post.post(1).out.length > 0)
    launcher.kill('SIGTERM')
    expect(await ended()).toEqual([143, null])
  })

  test('does not wait for a command that ignores SIGTERM longer than 5 s', async () => {
    post.start(1, 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    begin()
    await soon('it is ready', () => post.post(1).out.length > 0)
    launcher.kill('SIGTERM')
    const began = Date.now()
    expect(await ended()).toEqual([143, null])
    expect(Date.now() - began).toBeGreaterThan(4900)
    expect(post.post(1).status).toBe(9)
  }, minute)

  test('does not come with signals that are meant for a user\'s program', async () => {
    begin()
    await waiting()
    for (const signal of ['SIGUSR1', 'SIGHUP', 'SIGINT', 'SIGPIPE', 'SIGALRM'] as const) launcher.kill(signal)
    post.start(1, 'true')
    wake()
    await over(1)
  })
})
