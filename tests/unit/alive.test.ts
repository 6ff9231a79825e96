import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EventLoopMonitor } from '../../daemon/linux/event-loop.ts'
import { keepWatchdog } from '../../daemon/linux/service-manager.ts'
import { SpaceWatch, assertWithinRoom } from '../../daemon/member/space-watch.ts'
import { said } from '../support/errors.ts'

/** That the daemon is alive, and how quickly it answers. */

let folder: string
beforeAll(() => { folder = mkdtempSync(join(tmpdir(), 'stint-alive-')) })
afterAll(() => { rmSync(folder, { recursive: true }) })

/** Keeps the event loop from turning. */
function hang(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

describe('the watchdog', () => {
  test('hears of the daemon four times in its time, and nothing while the event loop hangs', async () => {
    const path = join(folder, 'notify')
    const listener = spawn('python3', ['-uc', `import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); print('ready')
while True: print(s.recv(100).decode(), time.time())`, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    let heard = ''
    listener.stdout.setEncoding('utf8').on('data', (text: string) => { heard += text })
    try {
      await once(listener.stdout, 'data')
      const errors: unknown[] = []
      using watchdog = keepWatchdog({ WATCHDOG_USEC: '400000', NOTIFY_SOCKET: path }, (error) => { errors.push(error) })
      expect(watchdog).toBeDefined()
      await sleep(550)
      hang(1500)
      await sleep(250)
      const times = [...heard.matchAll(/^WATCHDOG=1 ([\d.]+)$/gm)].map((match) => Number(match[1]))
      expect(times.length).toBeGreaterThanOrEqual(4)
      expect(Math.max(...times.slice(1).map((time, at) => time - (times[at] ?? 0)))).toBeGreaterThan(1.3)
      expect(errors).toEqual([])
    } finally {
      listener.kill()
    }
  })

  test.each([{}, { WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' }, { WATCHDOG_USEC: 'x' }])('of nobody is told nothing: %j', async (environment) => {
    const errors: unknown[] = []
    using watchdog = keepWatchdog({ NOTIFY_SOCKET: join(folder, 'nobody'), ...environment }, (error) => { errors.push(error) })
    await sleep(50)
    watchdog[Symbol.dispose]()
    expect(errors).toEqual([])
  })
})

test('the delay of the event loop is measured', async () => {
  using monitor = new EventLoopMonitor()
  await sleep(50)
  hang(300)
  await sleep(50)
  expect(monitor.read().max).toBeGreaterThan(200)
  expect(monitor.read().maxSinceStart).toBe(monitor.read().max)
  expect(monitor.read().p50).toBeLessThan(200)
})

describe('the room of a checkpoint', () => {
  test('is watched while it is written', async () => {
    const draft = join(folder, 'draft')
    mkdirSync(join(draft, 'criu'), { recursive: true })
    using watch = new SpaceWatch(draft, 1000)
    writeFileSync(join(draft, 'criu/a'), 'x'.repeat(900))
    await sleep(250)
    expect(watch.signal.aborted).toBe(false)
    writeFileSync(join(draft, 'b'), 'x'.repeat(200))
    await sleep(250)
    expect(watch.signal.reason).toMatchObject({ code: 'E_STORE_QUOTA' })
    expect(await said(async () => assertWithinRoom(draft, 1000))).toMatch(/E_STORE_QUOTA: the checkpoint grew beyond/)
    await assertWithinRoom(draft, Infinity)
  })
})

describe('the library that CRIU is started with', () => {
  test('fails writes beyond a limit, and every one after SIGTERM, in place of ending the program', () => {
    const source = join(import.meta.dirname, '../../plugins/spank/criu/criu_bounds.c')
    execFileSync('cc', ['-std=gnu17', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-o', `${folder}/bounds.so`, source])
    const program = `import os, signal
def write(text):
    fd = os.open('${folder}/out', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try: return os.write(fd, text)
    except OSError as error: return error.strerror
    finally: os.close(fd)
print(write(b'x' * 600), write(b'x' * 600), write(b'x'))
os.unlink('${folder}/out')
os.kill(os.getpid(), signal.SIGTERM)
print(write(b'x'))`
    const run = (environment: Record<string, string>): string => execFileSync('python3', ['-c', program], { encoding: 'utf8', env: { PATH: process.env['PATH'] ?? '', LD_PRELOAD: `${folder}/bounds.so`, ...environment } })
    expect(run({ STINT_FILE_LIMIT: '1000' })).toBe('600 400 File too large\nFile too large\n')
    expect(() => run({})).toThrow()
  })
})
