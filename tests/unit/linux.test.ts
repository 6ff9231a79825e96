import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, chmodSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { ownCapabilities, parseCapabilities } from '../../daemon/linux/capabilities.ts'
import { cgroupPlaces, isFrozen, isInStep, parseCgroupMounts, parseCgroupPlaces, placesForRestore, trackingPlace } from '../../daemon/linux/cgroups.ts'
import { CommandRunner } from '../../daemon/linux/command.ts'
import { writeDurably } from '../../daemon/linux/durable.ts'
import { HeldProcess, ownProcess } from '../../daemon/linux/held-process.ts'
import { isJobsOwn, mountOfPath, mountsOf, parseMounts } from '../../daemon/linux/mounts.ts'
import { ghostBytes, payloadProcesses, treeBytes, watchedFiles } from '../../daemon/linux/payload.ts'
import { descendsFrom, isAlive, listPids, processStat, processStatus, statusBytes } from '../../daemon/linux/processes.ts'
import { connectionsOf, isLoopback, parseTcp } from '../../daemon/linux/tcp.ts'
import { clearSocketPath, listenAt } from '../../daemon/linux/unix-socket.ts'
import { Users } from '../../daemon/linux/users.ts'
import { refusal, said } from '../support/errors.ts'

let folder: string
const started: ChildProcess[] = []

beforeAll(() => { folder = mkdtempSync(join(tmpdir(), 'stint-linux-')) })
afterAll(() => {
  for (const child of started) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

async function start(program: string, ...args: string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'ignore' })
  await once(child, 'spawn')
  started.push(child)
  if (child.pid === undefined) throw new Error('no pid')
  return child.pid
}

describe('a process', () => {
  const awkward = ['a) (b', '1 2 3', ') S 1', '((((', 'x\n(y)']

  test.each(awkward)('named %j is read right', async (name) => {
    const program = join(folder, name)
    copyFileSync('/bin/sleep', program)
    chmodSync(program, 0o755)
    const pid = await start(program, '60')
    expect(processStat(pid)).toMatchObject({ pid, comm: name, parent: process.pid, state: expect.stringMatching(/^[RSD]$/) as unknown })
    expect(processStat(pid)?.startTime).toBeGreaterThan(0)
  })

  test('that has ended is told from one that runs', async () => {
    const pid = await start('/bin/sleep', '60')
    const startTime = processStat(pid)?.startTime ?? 0
    expect([isAlive(pid, startTime), isAlive(pid, startTime + 1)]).toEqual([true, false])
    const child = started.find((c) => c.pid === pid)
    using held = HeldProcess.open(pid, startTime)
    held.signal('SIGKILL')
    if (child !== undefined) await once(child, 'exit')
    expect(isAlive(pid, startTime)).toBe(false)
    expect([processStat(pid), processStatus(pid), cgroupPlaces({ proc: `/proc/${pid}` })]).toEqual([undefined, undefined, undefined])
    expect(mountsOf({ proc: `/proc/${pid}` })).toEqual([])
  })

  test('that is a zombie is not alive', async () => {
    // The shell becomes a program that never waits for its child.
    const parent = await start('/bin/sh', '-c', '/bin/true & exec /bin/sleep 60')
    const zombie = async (): Promise<number> => {
      for (;;) {
        const found = listPids().find((pid) => processStat(pid)?.parent === parent && processStat(pid)?.state === 'Z')
        if (found !== undefined) return found
        await new Promise((done) => setTimeout(done, 5))
      }
    }
    const pid = await zombie()
    expect(isAlive(pid, processStat(pid)?.startTime ?? 0)).toBe(false)
    expect(descendsFrom(pid, process.pid)).toBe(true)
    expect(descendsFrom(process.pid, pid)).toBe(false)
  })

  test('has a status with its memory in bytes', () => {
    const status = processStatus(process.pid) ?? new Map<string, string>()
    expect(status.get('Pid')).toBe(String(process.pid))
    expect(statusBytes(status, 'VmRSS')).toBeGreaterThan(2 ** 20)
    expect(statusBytes(status, 'NoSuchField')).toBe(0)
  })
})

describe('the processes below a root directory', () => {
  test('have their open files with kind, rights and what was deleted', async () => {
    writeFileSync(join(folder, 'gone'), 'x')
    const child = spawn('/bin/bash', ['-c', `mkfifo pipe; exec 3>out 4<gone 5<>pipe 6</dev/null 7< <(:); rm gone; echo ready; exec sleep 60`], { stdio: ['ignore', 'pipe', 'ignore'], cwd: folder })
    started.push(child)
    await once(child.stdout, 'data')
    const found = payloadProcesses(ownProcess).find((p) => p.pid === child.pid)
    const of = (path: string): unknown => found?.files.find((file) => file.path === path)
    expect(of(join(folder, 'out'))).toMatchObject({ kind: 'file', writable: true, deleted: false, bytes: 0 })
    expect(of(join(folder, 'gone'))).toMatchObject({ kind: 'file', writable: false, deleted: true })
    expect(of(join(folder, 'pipe'))).toMatchObject({ kind: 'fifo', writable: true })
    expect(of('/dev/null')).toMatchObject({ kind: 'character-device' })
    expect(of(folder)).toMatchObject({ kind: 'directory' })
    expect(found?.files.some((file) => /\/libc[.-]/.test(file.path) && !file.writable)).toBe(true)
    expect(found?.anonymous.some((name) => name.startsWith('pipe:['))).toBe(true)
    expect(found).toMatchObject({ threads: 1, watched: [] })
    expect(found?.mappings).toBeGreaterThan(10)
  })

  test('have leases, and files that they watch for being opened or read', async () => {
    const program = `import ctypes, fcntl, os, time
notify = ctypes.CDLL(None).inotify_init()
os.close(os.open('watched', os.O_CREAT)); os.close(os.open('written', os.O_CREAT))
ctypes.CDLL(None).inotify_add_watch(notify, b'watched', 0x20); ctypes.CDLL(None).inotify_add_watch(notify, b'written', 0x2)
fcntl.fcntl(os.open('leased', os.O_CREAT | os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK); os.open('plain', os.O_CREAT | os.O_WRONLY)
print('ready', flush=True); time.sleep(60)`
    const child = spawn('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'ignore'], cwd: folder })
    started.push(child)
    await once(child.stdout, 'data')
    const found = payloadProcesses(ownProcess).find((p) => p.pid === child.pid)
    const of = (name: string): unknown => found?.files.find((file) => file.path === join(folder, name))
    expect(of('leased')).toMatchObject({ leased: true, readable: true, writable: true })
    expect(of('plain')).toMatchObject({ leased: false, readable: false, writable: true })
    expect(found?.watched.map(({ inode }) => inode)).toEqual([statSync(join(folder, 'watched')).ino])
  })

  test('have deleted files, which an image holds once, and memory files that nobody has mapped', async () => {
    const program = `import os, time
a = os.open('deleted', os.O_CREAT | os.O_RDWR); os.write(a, b'x' * 300000); os.unlink('deleted'); os.dup(a)
m = os.memfd_create('m'); os.write(m, b'x' * 200000)
print('ready', flush=True); time.sleep(60)`
    const child = spawn('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'ignore'], cwd: folder })
    started.push(child)
    await once(child.stdout, 'data')
    const bytes = await ghostBytes(ownProcess, payloadProcesses(ownProcess).filter((p) => p.pid === child.pid))
    expect(bytes).toBeGreaterThanOrEqual(500_000)
    expect(bytes).toBeLessThan(560_000)
  })

  test.each([
    ['inotify wd:1 ino:2a sdev:27 mask:fff ignored_mask:0 fhandle-bytes:c', [{ inode: 42, device: 39 }]],
    ['inotify wd:2 ino:2a sdev:fd00001 mask:2 ignored_mask:0', []],
    ['fanotify flags:0 event-flags:8000\nfanotify mnt_id:1c mflags:0 mask:20 ignored_mask:0', [{ inode: 0, device: undefined }]],
    ['fanotify sdev:27 mflags:0 mask:1 ignored_mask:0', [{ inode: 0, device: 39 }]],
    ['pos:\t0\nflags:\t00', []],
  ])('watch what %j says', (fdinfo, expected) => {
    expect(watchedFiles(fdinfo)).toEqual(expected)
  })
})

describe('mounts', () => {
  const text = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
    '23 22 0:5 / /proc rw - proc proc rw',
    '30 22 0:40 / /shared rw,relatime shared:7 master:2 - nfs4 server:/export/a\\040b rw',
    '31 22 0:41 /sub /mnt/with\\040blank\\134and\\011tab rw - ext4 /dev/sdb rw',
    '32 30 0:42 / /shared rw - tmpfs over rw',
  ].join('\n')
  const mounts = parseMounts(`${text}\n`)

  test('are read with their escapes', () => {
    expect(mounts.map((m) => [m.id, m.mountPoint, m.type])).toEqual([[22, '/', 'ext4'], [23, '/proc', 'proc'], [30, '/shared', 'nfs4'], [31, '/mnt/with blank\\and\ttab', 'ext4'], [32, '/shared', 'tmpfs']])
  })

  test.each([['/etc/passwd', 22], ['/proc/1', 23], ['/process', 22], ['/shared', 32], ['/shared/x', 32], ['/sharedx', 22], ['/', 22]])('%s lies on mount %d', (path, id) => {
    expect(mountOfPath(mounts, path)?.id).toBe(id)
  })

  test.each(['', '\n', 'garbage', '22 1 8:1 /', '22 1 8:1 / / rw -'])('%j has none', (line) => {
    expect(parseMounts(line)).toEqual([])
  })

  test('of a live process begin with its root', () => {
    expect(mountOfPath(mountsOf(ownProcess), '/')?.mountPoint).toBe('/')
  })

  describe("are the job's own", () => {
    const node = ['22 1 254:0 / / rw - ext4 /dev/vda rw', '30 22 0:27 / /dev/shm rw - tmpfs tmpfs rw', '40 22 0:39 / /tmp rw - tmpfs tmpfs rw']
    // Slurm 24.11, job_container/tmpfs with BasePath=/var/lib/slurm-tmp, as /proc/PID/mountinfo of a task has them.
    const container = [...node, '91 40 254:0 /var/lib/slurm-tmp/6/.6/_tmp /tmp rw - ext4 /dev/vda rw', '92 30 0:61 / /dev/shm rw - tmpfs tmpfs rw']

    test.each([
      ['/tmp and /dev/shm of job_container/tmpfs', container, 6, true, true],
      ['/tmp of a job container of another job', container, 66, false, true],
      ["the node's own", node, 6, false, false],
      ['a /tmp for all jobs of a user', [...node, '91 40 254:0 /tmp-of/alice /tmp rw - ext4 /dev/vda rw'], 6, false, false],
      ['a mount below /tmp', [...node, '91 40 254:0 /x/6 /tmp/6 rw - ext4 /dev/vda rw'], 6, false, false],
    ])('%s', (_, task, job, tmp, shm) => {
      const [ofTask, ofNode] = [task, node].map((lines) => parseMounts(lines.join('\n')))
      expect(['/tmp', '/dev/shm'].map((path) => isJobsOwn(path, job, ofTask ?? [], ofNode ?? []))).toEqual([tmp, shm])
    })
  })
})

describe('a private tree', () => {
  test('on disk holds what its files occupy, not what their file system does, and no file that a link leads to', async () => {
    const tree = join(folder, 'tree')
    mkdirSync(join(tree, 'below/deeper'), { recursive: true })
    writeFileSync(join(tree, 'below/deeper/file'), Buffer.alloc(1_000_000, 1))
    symlinkSync('/usr', join(tree, 'link'))
    const bytes = await treeBytes(tree)
    expect(bytes).toBeGreaterThanOrEqual(1_000_000)
    expect(bytes).toBeLessThan(1_100_000)
  })

  test('that is not there holds nothing', async () => {
    expect(await treeBytes(join(folder, 'absent'))).toBe(0)
  })
})

describe('a cgroup', () => {
  test.each([
    [true, { 'freezer.state': 'FROZEN\n' }], [true, { 'freezer.state': 'FREEZING\n' }], [false, { 'freezer.state': 'THAWED\n' }],
    [true, { 'cgroup.events': 'populated 1\nfrozen 1\n' }], [false, { 'cgroup.events': 'populated 1\nfrozen 0\n' }], [false, {}],
  ])('is frozen: %s, with %j', (frozen, files: Record<string, string>) => {
    const directory = mkdtempSync(join(folder, 'cgroup-'))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
    expect(isFrozen(directory)).toBe(frozen)
  })
})

describe('cgroups', () => {
  const v1Mounts = parseCgroupMounts([
    '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
    '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer',
    '40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd',
  ].join('\n'))
  const hybridMounts = [...v1Mounts, ...parseCgroupMounts('41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate')]
  const v2Mounts = parseCgroupMounts('31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot')
  const v1Text = '3:freezer:/slurm/uid_1001/job_5/step_batch/task_0\n2:cpu,cpuacct:/slurm/uid_1001/job_5/step_batch\n1:name=systemd:/user.slice\n'

  test('of v1 are found by controller, however many share a hierarchy', () => {
    expect(parseCgroupPlaces(v1Text, v1Mounts).map((p) => p.directory)).toEqual([
      '/sys/fs/cgroup/freezer/slurm/uid_1001/job_5/step_batch/task_0', '/sys/fs/cgroup/cpu,cpuacct/slurm/uid_1001/job_5/step_batch', '/sys/fs/cgroup/systemd/user.slice',
    ])
  })

  test('of a hybrid machine: slurmstepd signals by the freezer while the step is not in the unified hierarchy', () => {
    const places = parseCgroupPlaces(`${v1Text}0::/init.scope\n`, hybridMounts)
    expect(places.at(-1)?.directory).toBe('/sys/fs/cgroup/unified/init.scope')
    expect(trackingPlace(places).directory).toBe('/sys/fs/cgroup/freezer/slurm/uid_1001/job_5/step_batch/task_0')
  })

  test('of v2: slurmstepd signals by the only one', () => {
    const places = parseCgroupPlaces('0::/system.slice/slurmstepd.scope/job_5/step_batch/user/task_0\n', v2Mounts)
    expect(trackingPlace(places).directory).toBe('/sys/fs/cgroup/system.slice/slurmstepd.scope/job_5/step_batch/user/task_0')
  })

  test('below a part that a container shows are cut at that part, not in the middle of a name', () => {
    const mounts = parseCgroupMounts('37 31 0:34 /docker/ab /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer')
    expect(parseCgroupPlaces('3:freezer:/docker/ab/job_5', mounts).map((p) => p.directory)).toEqual(['/sys/fs/cgroup/freezer/job_5'])
    expect(parseCgroupPlaces('3:freezer:/docker/abc/job_5', mounts)).toEqual([])
  })

  test('tell the step of a job from those of others', () => {
    const places = parseCgroupPlaces(v1Text, v1Mounts)
    expect([isInStep(places, 5, 'batch'), isInStep(places, 55, 'batch'), isInStep(places, 5, '0'), isInStep(places, 5, 'batc')]).toEqual([true, false, false, false])
  })

  test('without a step are refused', async () => {
    expect(await said(() => trackingPlace(parseCgroupPlaces('3:freezer:/\n0::/init.scope', hybridMounts)))).toBe('E_NOT_VERIFIED: the process is in no cgroup of a Slurm step')
    expect(await said(() => trackingPlace([]))).toContain('E_NOT_VERIFIED')
  })

  test('for a restore have the payload\'s in place of its parent', () => {
    const places = [{ controllers: ['freezer'], directory: '/f/step_batch' }, { controllers: ['cpu'], directory: '/c/step_batch' }]
    expect(placesForRestore(places, '/f/step_batch/stint')).toEqual(['/f/step_batch/stint', '/c/step_batch'])
  })

  test.each(['', '\n', 'garbage', '3:freezer', '0::'])('%j has no place but perhaps the root', (text) => {
    expect(parseCgroupPlaces(text, v1Mounts)).toEqual([])
  })

  test('of this very process are directories', () => {
    for (const { directory } of cgroupPlaces(ownProcess) ?? []) expect(statSync(directory).isDirectory()).toBe(true)
  })
})

describe('capabilities', () => {
  test.each([['0', []], ['0000000000000001', ['chown']], ['0000010000200000', ['sys_admin', 'checkpoint_restore']], ['8000000000000000', []]])('%s are %j', (mask, expected) => {
    expect([...parseCapabilities(mask)]).toEqual(expected)
  })

  test('of this process are those the kernel has', () => {
    const kernel = /^CapPrm:\s+(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
    expect(ownCapabilities()).toEqual(parseCapabilities(kernel))
  })
})

describe('TCP connections', () => {
  const header = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'

  test('that are established are read from recorded tables', () => {
    const v4 = `${header}\n   0: 0100007F:1A29 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100\n   1: 0502A8C0:D431 0101A8C0:1AA1 01 00000000:00000000 02:000004D2 00000000  1001        0 222 2 0 20 4 30 10 -1\n`
    const v6 = `${header}\n   0: 00000000000000000000000001000000:0016 00000000000000000000000001000000:C350 01 0:0 00:0 0 0 0 333 1\n   1: 0000000000000000FFFF00000502A8C0:0016 0000000000000000FFFF00000101A8C0:C350 01 0:0 00:0 0 0 0 444 1\n`
    expect(parseTcp(v4)).toEqual([{ inode: '222', localAddress: '192.168.2.5', localPort: 54321, remoteAddress: '192.168.1.1', remotePort: 6817, isEstablished: true, unsentBytes: 0 }])
    expect(parseTcp(v6).map((c) => [c.inode, c.localAddress, c.remoteAddress])).toEqual([['333', '0:0:0:0:0:0:0:1', '0:0:0:0:0:0:0:1'], ['444', '192.168.2.5', '192.168.1.1']])
  })

  test.each(['', header, `${header}\n   0: 0100`, `${header}\ngarbage`])('%j has none', (text) => {
    expect(parseTcp(text)).toEqual([])
  })

  test('of this process are seen, with their addresses', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const client = connect(port, '127.0.0.1')
    await once(client, 'connect')
    const seen = connectionsOf(ownProcess).find((c) => c.remotePort === port && c.localPort === client.localPort)
    expect(seen).toMatchObject({ localAddress: '127.0.0.1', remoteAddress: '127.0.0.1' })
    client.destroy()
    server.close()
  })

  test.each([['127.0.0.1', true], ['127.9.9.9', true], ['0:0:0:0:0:0:0:1', true], ['128.0.0.1', false], ['1.127.0.1', false]])('%s within the machine: %s', (address, expected) => {
    expect(isLoopback(address)).toBe(expected)
  })
})

describe('the path of a Unix socket', () => {
  const at = (name: string): string => join(folder, name)

  test.each(['a file', 'a directory', 'a link'])('with %s on it is refused and left alone', async (what) => {
    const path = at(what)
    if (what === 'a file') writeFileSync(path, 'precious')
    else if (what === 'a directory') mkdirSync(path)
    else symlinkSync('/etc/passwd', path)
    expect(await said(() => { clearSocketPath(path) })).toBe(`E_BAD_CONFIG: ${path} exists and is no socket`)
    expect(lstatSync(path)).toBeDefined()
  })

  test('with the socket of a daemon that was killed is taken over, with exactly the mode asked for', async () => {
    const path = at('deep/er/s.sock')
    const code = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`
    mkdirSync(at('deep/er'), { recursive: true })
    await once(spawn(process.execPath, ['-e', code]), 'exit')
    expect(lstatSync(path).isSocket()).toBe(true)
    const umask = process.umask(0)
    try {
      await using listening = await listenAt(createServer(), path, 0o640)
      expect(lstatSync(path).mode & 0o777).toBe(0o640)
      expect(listening).toBeDefined()
    } finally {
      expect(process.umask(umask)).toBe(0)
    }
  })

  test('too long for the kernel is an error', async () => {
    expect((await refusal(() => listenAt(createServer(), at('x'.repeat(120)), 0o600))).message).toMatch(/EINVAL|too long|ENAMETOOLONG/)
  })
})

describe('a durable file', () => {
  test('is replaced whole, with its mode, and nothing stays beside it', () => {
    const directory = mkdtempSync(join(folder, 'durable-'))
    for (const text of ['first', '2']) {
      writeDurably(join(directory, 'f'), text, 0o640)
      expect(readFileSync(join(directory, 'f'), 'utf8')).toBe(text)
    }
    expect([statSync(join(directory, 'f')).mode & 0o777, readdirSync(directory)]).toEqual([0o640, ['f']])
  })

  test('in a directory that is not there is an error', async () => {
    expect((await refusal(() => { writeDurably(join(folder, 'none', 'f'), '') })).code).toBe('ENOENT')
  })
})

describe('a user', () => {
  const runner = (): CommandRunner => new CommandRunner(pino({ level: 'silent' }))

  test('has a name, or else the number', async () => {
    const users = new Users(runner(), '/usr/bin/getent')
    expect(await Promise.all([0, 4_000_000_000].map(async (uid) => users.nameOf(uid)))).toEqual(['root', '4000000000'])
  })

  test.each([
    ['a directory knows him', 'echo "carol:x:$2:100::/home/carol:/bin/sh"', 'carol'],
    ['two entries share the uid: the first counts', 'printf "carol:x:7:1:::\\ndave:x:7:1:::\\n"', 'carol'],
    ['a login name that is a number is not the uid', 'echo "7:x:1234:100::/:/bin/sh"', '7'],
    ['the directory does not answer', 'sleep 8', '7'],
    ['the look-up fails', 'exit 3', '7'],
    ['it prints rubbish', 'echo; echo ::', '7'],
  ])('when %s', async (_, body, name) => {
    const getent = join(folder, `getent-${Math.random()}`)
    writeFileSync(getent, `#!/bin/sh\n${body}\n`, { mode: 0o755 })
    const started = Date.now()
    expect(await new Users(runner(), getent).nameOf(7)).toBe(name)
    expect(Date.now() - started).toBeLessThan(6000)
  })

  test.each([
    ['carol 100 2000', [100, 2000]],
    ['carol', []],
  ])('has the groups that the directory tells: %s', async (line, groups) => {
    const getent = join(folder, `getent-${Math.random()}`)
    writeFileSync(getent, `#!/bin/sh\n[ "$*" = "initgroups carol" ] && echo "${line}"\n`, { mode: 0o755 })
    expect(await new Users(runner(), getent).groupsOf('carol')).toEqual(groups)
  })

  test('is not taken for one without groups when the look-up fails', async () => {
    const getent = join(folder, `getent-${Math.random()}`)
    writeFileSync(getent, '#!/bin/sh\nexit 3\n', { mode: 0o755 })
    expect(await refusal(async () => new Users(runner(), getent).groupsOf('carol'))).toMatchObject({ code: 'E_COMMAND_FAILED' })
  })

  test('is looked up once for many, and not again soon', async () => {
    const getent = join(folder, 'getent-counted')
    writeFileSync(getent, `#!/bin/sh\necho x >> ${folder}/asked\necho "carol:x:$2:100::/:/bin/sh"\n`, { mode: 0o755 })
    const users = new Users(runner(), getent)
    expect(await Promise.all([7, 7, 7].map(async (uid) => users.nameOf(uid)))).toEqual(['carol', 'carol', 'carol'])
    await users.nameOf(7)
    expect(readFileSync(`${folder}/asked`, 'utf8')).toBe('x\n')
  })
})

describe('a command', () => {
  const runner = new CommandRunner(pino({ level: 'silent' }))

  test('gets its arguments as they stand, an empty standard input and a minimal environment', async () => {
    expect((await runner.run(['/usr/bin/printf', '%s|', '$HOME', '; ls', "a'b", ''])).stdout).toBe("$HOME|; ls|a'b||")
    expect((await runner.run(['/bin/cat'])).stdout).toBe('')
    expect((await runner.run(['/usr/bin/env'], { env: { X: '1' } })).stdout.split('\n').sort()).toEqual(['LC_ALL=C', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'X=1'])
  })

  test('may end with an expected code, not with another', async () => {
    expect((await runner.run(['/bin/sh', '-c', 'exit 3'], { expected: [0, 3] })).exitCode).toBe(3)
    expect(await said(() => runner.run(['/bin/sh', '-c', 'echo why >&2; exit 3']))).toBe('E_COMMAND_FAILED: /bin/sh ended with 3: why')
  })

  test('that hangs is killed when its time is over', async () => {
    expect(await said(() => runner.run(['/bin/sleep', '60'], { timeoutSeconds: 0.05 }))).toContain('E_COMMAND_FAILED: /bin/sleep took too long')
  })

  test('that does not exist, may not be run or is killed is an error', async () => {
    expect(await said(() => runner.run(['/nonexistent']))).toContain('E_COMMAND_FAILED: /nonexistent')
    expect(await said(() => runner.run(['/etc/passwd']))).toContain('E_COMMAND_FAILED: /etc/passwd')
    expect(await said(() => runner.run(['/bin/sh', '-c', 'kill -9 $$']))).toContain('E_COMMAND_FAILED: /bin/sh')
  })

  test('that floods its output is ended, not buffered for ever', async () => {
    expect(await said(() => runner.run(['/usr/bin/yes'], { timeoutSeconds: 5 }))).toContain('E_COMMAND_FAILED: /usr/bin/yes')
  })

  test.each([['exit 7', 7], ['kill -9 $$', 137]])('that outlives the daemon tells its end: %s', async (script, expected) => {
    expect(await runner.startDetached(['/bin/sh', '-c', script], join(folder, 'out')).ended).toBe(expected)
  })

  test('that outlives the daemon writes to its file and leads its own session', async () => {
    const output = join(folder, 'detached')
    const program = runner.startDetached(['/bin/sh', '-c', 'echo out; echo err >&2; ps -o sid= -p $$'], output)
    await program.ended
    expect(readFileSync(output, 'utf8').split(/\s+/).filter((w) => w !== '')).toEqual(['out', 'err', String(program.pid)])
  })

  test('that outlives the daemon and does not exist is an error', async () => {
    expect(await said(() => runner.startDetached(['/nonexistent'], join(folder, 'out')))).toBe('E_COMMAND_FAILED: /nonexistent did not start')
  })
})
