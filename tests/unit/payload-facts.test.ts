import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { blockersOf } from '../../daemon/core/blockers.ts'
import { ownProcess } from '../../daemon/linux/held-process.ts'
import { payloadProcesses } from '../../daemon/linux/payload.ts'
import { payloadFacts, softLimit } from '../../daemon/linux/payload-facts.ts'
import { parseListeners } from '../../daemon/linux/tcp.ts'
import { parseUnixListeners } from '../../daemon/linux/unix-listeners.ts'

/** Facts of real processes on the real kernel. */

const limits = 'Limit                     Soft Limit           Hard Limit           Units     \nMax open files            20000                20000                files     \nMax address space         unlimited            unlimited            bytes     \n'

const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9C4B 00000000:0000 0A 00000000:00000001 00:00000000 00000000  1001        0 1468022 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1400000 1 0000000000000000 100 0 0 10 0
   2: 0100007F:9C4B 0100007F:C350 01 00000000:00000005 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1
`

const unix = (sent: number): string => `u_str LISTEN 1      128                 /tmp/my server.sock 1476675 * 0
u_str LISTEN 0      256    /run/munge/munge.socket.2 65882   * 0
u_str ESTAB  0      ${sent}                            * 1476676 * 0
`

describe('text of the kernel', () => {
  test('limits are numbers, or none', () => {
    expect([softLimit(limits, 'Max open files'), softLimit(limits, 'Max address space'), softLimit('', 'Max open files')]).toEqual([20_000, Infinity, Infinity])
  })

  test('listeners with connections to accept, over TCP', () => {
    expect(parseListeners(tcp)).toEqual([{ inode: '1468022', waiting: 1, address: 'port 40011 of 127.0.0.1' }])
    expect(parseListeners('')).toEqual([])
  })

  test('listeners with connections to accept, over Unix sockets: those alone whose clients have sent something', () => {
    expect(parseUnixListeners(unix(768))).toEqual([{ inode: '1476675', waiting: 1, address: '/tmp/my server.sock' }])
    expect(parseUnixListeners(unix(0))).toEqual([])
    expect(parseUnixListeners('')).toEqual([])
  })
})

const program = `
import os, socket, sys, threading, time
os.dup2(0, 500)
reading, writing = os.pipe2(os.O_DIRECT)
server = socket.create_server(('127.0.0.1', 0))
unix, other = socket.socketpair()
for n in range(10000 if 'many' in sys.argv else 0): os.dup2(0, 1000 + n)
print('ready', flush=True)
time.sleep(1000)
`

describe('facts', () => {
  let directory: string
  let root: string
  const children: ReturnType<typeof spawn>[] = []

  /** A stand-in for a sandbox whose /proc is this one: payloadFacts reads /proc/PID1/root/proc. */
  async function started(argv: readonly string[]): Promise<number> {
    const child = spawn('/usr/bin/python3', argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    await once(child.stdout, 'data')
    return child.pid ?? 0
  }

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'facts-'))
    root = join(directory, 'program.py')
    writeFileSync(root, program)
  })

  afterAll(() => {
    for (const child of children) child.kill('SIGKILL')
    rmSync(directory, { recursive: true })
  })

  function factsOf(pid: number): ReturnType<typeof payloadFacts> {
    return payloadFacts(ownProcess, payloadProcesses(ownProcess).filter((one) => one.pid === pid))
  }

  test('of a process: ids, program, descriptors with their protocols, limits', async () => {
    const pid = await started([root])
    const [facts] = factsOf(pid)
    expect(facts).toMatchObject({ pid, comm: 'python3', threads: 1, uids: [0, 0, 0, 0], highestFd: 500, waitsInVfork: false, program: { deleted: false } })
    expect(facts?.program?.path).toMatch(/python3/)
    expect(facts?.addressSpace.used).toBeGreaterThan(1e6)
    expect(facts?.descriptors.filter(({ fd }) => fd > 2).map(({ protocol }) => protocol).filter((one) => one !== undefined).sort()).toEqual(['TCP', 'UNIX-STREAM', 'UNIX-STREAM'])
    expect(facts?.namespaces['mnt']).toMatch(/^mnt:\[\d+\]$/)
    const mounts = new Map<number, { type: string; mountPoint: string }>()
    const kinds = blockersOf([facts ?? []].flat(), { rootPid: pid, uid: 0, jobId: 1, descriptorLimit: 512, mounts, guardStopped: false, listeners: [] }).map(({ kind }) => kind)
    expect(kinds).toEqual(expect.arrayContaining(['packet-pipe', 'descriptor-limit']))
  })

  test('ten thousand descriptors are looked at in the time that it takes to read each of their names 15 times: about 0.3 s', async () => {
    const pid = await started([root, 'many'])
    const cost = (work: () => void): number => {
      const begun = process.cpuUsage()
      work()
      const { user, system } = process.cpuUsage(begun)
      return user + system
    }
    const reading = (): void => { for (const fd of readdirSync(`/proc/${pid}/fd`)) readlinkSync(`/proc/${pid}/fd/${fd}`) }
    // By turns: both take longer while the machine has other work. 6 to 9 were seen; what grew with the square would take hundreds.
    const rounds = Array.from({ length: 3 }, () => cost(() => { expect(factsOf(pid)[0]?.highestFd).toBe(10_999) }) / cost(reading))
    expect(Math.min(...rounds)).toBeLessThan(15)
  })

  test('a parent that waits in vfork is seen, and its child is not taken for one', async () => {
    const source = join(directory, 'vfork.c')
    writeFileSync(source, '#define _GNU_SOURCE\n#include <unistd.h>\n#include <sys/wait.h>\nint main(void) { pid_t child = vfork(); if (child == 0) { (void)!write(1, "ready", 5); sleep(1000); _exit(0); } return wait(0) < 0; }\n')
    execFileSync('cc', ['-o', join(directory, 'vfork'), source])
    symlinkSync(join(directory, 'vfork'), join(directory, 'waits'))
    const child = spawn(join(directory, 'waits'), { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
    children.push(child)
    await once(child.stdout, 'data')
    const pid = child.pid ?? 0
    try {
      const processes = payloadProcesses(ownProcess).filter((one) => one.pid === pid || one.parent === pid)
      expect(payloadFacts(ownProcess, processes).map((one) => [one.pid === pid, one.waitsInVfork])).toEqual(expect.arrayContaining([[true, true], [false, false]]))
    } finally {
      process.kill(-pid, 'SIGKILL')
    }
  })
})
