import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { soon } from '../support/helpers.ts'

/** criu-shim.so at the end of a restore, with a stand-in for CRIU: a program that catches a task as CRIU does, and lets it go. */

/** The task counts in a file; it is stopped at a number, then let go. */
const catcher = `
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
task = os.fork()
if task == 0:
    number = 0
    while True:
        number += 1
        open('count.new', 'w').write(str(number))
        os.rename('count.new', 'count')
        time.sleep(0.01)
open('task', 'w').write(str(task))
def ask(request, data=0):
    if libc.ptrace(request, task, 0, data) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
time.sleep(0.2)
ask(0x4206)
ask(0x4207)
os.waitpid(task, 0)
ask(0x4200, 1)
open('caught', 'w').close()
if len(sys.argv) > 1:
    time.sleep(60)
ask(17)
open('released', 'w').close()
time.sleep(60)
`

let helpers: string
let folder: string
let server: Server
let heard: string[]
let client: Socket | undefined
let criu: ChildProcess

beforeAll(async () => {
  helpers = mkdtempSync(join(tmpdir(), 'stint-shim-'))
  await execa('make', ['-C', join(import.meta.dirname, '../../plugins/spank'), `BUILD=${helpers}`, join(helpers, 'criu-shim.so')])
}, 120_000)
afterAll(() => { rmSync(helpers, { recursive: true }) })
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stint-release-'))
  heard = []
  server = createServer((socket) => {
    client = socket.on('error', () => undefined).on('data', (data: Buffer) => heard.push(data.toString()))
  })
  await new Promise<void>((done) => server.listen(join(folder, 'barrier.sock'), done))
  writeFileSync(join(folder, 'catcher.py'), catcher)
})
afterEach(async () => {
  criu.kill('SIGKILL')
  if (taskLives()) process.kill(task(), 'SIGKILL')
  client?.destroy()
  await new Promise((done) => server.close(done))
  rmSync(folder, { recursive: true })
})

function start(environment: Record<string, string> = {}, ...args: string[]): void {
  criu = spawn('python3', ['catcher.py', ...args], {
    cwd: folder, stdio: 'inherit',
    env: { PATH: process.env['PATH'], LD_PRELOAD: join(helpers, 'criu-shim.so'), STINT_RELEASE: '1', STINT_BARRIER: join(folder, 'barrier.sock'), STINT_BARRIER_TIMEOUT: '20', ...environment },
  })
}

function task(): number {
  return Number(readFileSync(join(folder, 'task'), 'utf8'))
}

function taskLives(): boolean {
  if (!existsSync(join(folder, 'task'))) return false
  const status = existsSync(`/proc/${task()}/status`) ? readFileSync(`/proc/${task()}/status`, 'utf8') : ''
  return status !== '' && !status.includes('zombie')
}

const count = (): string => readFileSync(join(folder, 'count'), 'utf8')
const isThere = (name: string) => () => existsSync(join(folder, name))

/** CRIU has ended, and its task with it, where it was. */
async function allEnded(before: string): Promise<void> {
  if (criu.exitCode === null && criu.signalCode === null) await once(criu, 'exit')
  expect(criu.signalCode).toBe('SIGKILL')
  await soon('the task has ended', () => !taskLives())
  expect([count(), existsSync(join(folder, 'released'))]).toEqual([before, false])
}

describe('a restored task', () => {
  test('runs on the word', async () => {
    start()
    await soon('it is asked for', () => heard.length === 1)
    expect([heard, existsSync(join(folder, 'released'))]).toEqual([['pre-resume\n'], false])
    const before = count()
    client?.end('commit\n')
    await soon('it is released', isThere('released'))
    await soon('it goes on', () => count() !== before)
  })

  test.each(['abort\n', 'commit', 'commit\ncommit\n'])('ends without an instruction on %j, and CRIU with it', async (word) => {
    start()
    await soon('the word is asked for', () => heard.length === 1)
    const before = count()
    client?.end(word)
    await allEnded(before)
  })

  test('ends when nobody says a word', async () => {
    start({ STINT_BARRIER_TIMEOUT: '1' })
    await soon('the word is asked for', () => heard.length === 1)
    await allEnded(count())
  })

  test('ends when nobody is there to say it', async () => {
    start({ STINT_BARRIER: join(folder, 'nobody.sock'), STINT_BARRIER_RECONNECT: '1' })
    await soon('it is caught', isThere('caught'))
    await allEnded(count())
  })

  test.each(['it is asked for', 'it is caught'] as const)('ends when CRIU is killed while %s', async (when) => {
    if (when === 'it is caught') start({}, 'stay')
    else start()
    await soon(when, when === 'it is caught' ? isThere('caught') : () => heard.length === 1)
    const before = count()
    criu.kill('SIGKILL')
    await allEnded(before)
  })

  test('of a dump outlives CRIU, and nobody is asked', async () => {
    start({ STINT_RELEASE: '' }, 'stay')
    await soon('it is caught', isThere('caught'))
    criu.kill('SIGKILL')
    const before = count()
    await soon('it goes on', () => count() !== before)
    expect(heard).toEqual([])
  })
})
