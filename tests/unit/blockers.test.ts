import { describe, expect, test } from '@jest/globals'
import { blockersOf, highestRestorableFd, mayPass, parasiteBytes, type Descriptor, type NamedFile, type ProcessFacts, type Surroundings } from '../../daemon/core/blockers.ts'

/** What CRIU refuses or cannot restore, by facts as /proc of Linux 6.18 has them. */

const root = 1000
const own = { mnt: 'mnt:[1]', pid: 'pid:[2]', net: 'net:[3]', user: 'user:[4]', time: 'time:[5]' }

function process(change: Partial<ProcessFacts> = {}): ProcessFacts {
  return {
    pid: 1001, parent: root, comm: 'python3', state: 'S', threads: 1, uids: [1001, 1001, 1001, 1001], namespaces: own, descriptors: [], files: [], highestFd: 2,
    program: { path: '/usr/bin/python3.13', mode: 0o100755, deleted: false }, waitsInVfork: false, addressSpace: { used: 15e6, limit: Infinity }, ...change,
  }
}

function descriptor(link: string, change: Partial<Descriptor> = {}): Descriptor {
  return { fd: 3, link, fdinfo: '', protocol: undefined, ...change }
}

function file(path: string, change: Partial<NamedFile> = {}): NamedFile {
  return { fd: 3, path, deleted: false, mountId: 906, ...change }
}

const rootProcess = process({ pid: root, parent: 1, comm: 'stint-init' })
const surroundings: Surroundings = {
  rootPid: root, uid: 1001, jobId: 42, descriptorLimit: 20_000, guardStopped: false, listeners: [],
  mounts: new Map([[906, { type: 'overlay', mountPoint: '/' }], [926, { type: 'cgroup', mountPoint: '/sys/fs/cgroup/memory' }], [944, { type: 'cgroup2', mountPoint: '/sys/fs/cgroup' }]]),
}

function found(change: Partial<ProcessFacts>, around: Partial<Surroundings> = {}): { kind: string; message: string; remedy: string }[] {
  return blockersOf([rootProcess, process(change)], { ...surroundings, ...around })
}

const kindsOf = (...args: Parameters<typeof found>): string[] => found(...args).map(({ kind }) => kind)

const epollInfo = 'pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1057\ntfd:        4 events:       19 data:                4  pos:0 ino:163dd5 sdev:9\n'
const pidfdInfo = (pid: number, flags = '02000002'): string => `pos:\t0\nflags:\t${flags}\nmnt_id:\t14\nino:\t3126\nPid:\t${pid}\nNSpid:\t${pid}\n`

describe('each blocker names the process and has a remedy', () => {
  const cases: [string, Partial<ProcessFacts>, RegExp, Partial<Surroundings>?][] = [
    ['identity', { uids: [1001, 0, 0, 0] }, /uid 0/],
    ['namespace', { namespaces: { ...own, net: 'net:[9]' } }, /\(net\)/],
    ['ended-main-thread', { state: 'Z', threads: 3, program: undefined }, /main thread/],
    ['vfork', { state: 'D', waitsInVfork: true }, /vfork/],
    ['address-space', { addressSpace: { used: 15e6, limit: 15e6 + 32768 } }, /32 kB are left/],
    ['descriptor-limit', { highestFd: 19_999 }, /descriptor 19999 .* 20000 .* 19936/],
    ['not-executable', { program: { path: '/home/alice/own', mode: 0o100600, deleted: false } }, /\/home\/alice\/own/],
    ['secret-memory', { files: [file('/secretmem', { deleted: true, fd: undefined, mountId: undefined })] }, /memfd_secret/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:[userfaultfd]')] }, /userfaultfd at descriptor 3/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:[perf_event]')] }, /perf_event_open/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:bpf-map')] }, /BPF/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:[fanotify]')] }, /fanotify/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:seccomp notify')] }, /seccomp/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:kvm-vm')] }, /KVM/],
    ['kernel-object', { descriptors: [descriptor('anon_inode:[something-new]')] }, /something-new/],
    ['packet-pipe', { descriptors: [descriptor('pipe:[163]', { fdinfo: 'pos:\t0\nflags:\t02040001\nmnt_id:\t14\n' })] }, /descriptor 3/],
    ['eventfd-semaphore', { descriptors: [descriptor('anon_inode:[eventfd]', { fdinfo: 'pos:\t0\neventfd-count:                3\neventfd-id: 4\neventfd-semaphore: 1\n' })] }, /descriptor 3/],
    ['escaped-epoll', { descriptors: [descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo })] }, /descriptor 4/],
    ['escaped-epoll', { descriptors: [descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo }), descriptor('socket:[77]', { fd: 4, protocol: 'UNIX-STREAM' })] }, /descriptor 4/],
    ['outside-process', { descriptors: [descriptor('anon_inode:[pidfd]', { fdinfo: pidfdInfo(0) })] }, /outside the job/],
    ['outside-process', { descriptors: [descriptor('anon_inode:[pidfd]', { fdinfo: pidfdInfo(1000, '02000202') })] }, /of a thread/],
    ['mptcp', { descriptors: [descriptor('socket:[5]', { protocol: 'MPTCPv6' })] }, /multipath/],
    ['socket-kind', { descriptors: [descriptor('socket:[5]', { protocol: 'AF_VSOCK' })] }, /AF_VSOCK/],
    ['unaccepted-connection', { descriptors: [descriptor('socket:[5]', { protocol: 'TCP' })] }, /2 connections wait at port 80 of 127\.0\.0\.1/, { listeners: [{ inode: '5', waiting: 2, address: 'port 80 of 127.0.0.1' }] }],
    ['outside-file', { files: [file('/tmp/node-out.42', { fd: 1, mountId: 958 })] }, /\/tmp\/node-out\.42, where .* standard output/],
    ['outside-file', { files: [file('/moved', { mountId: 124 })] }, /message queue/],
    ['cgroup-file', { files: [file('/sys/fs/cgroup/memory/slurm/uid_1001/job_42/memory.stat', { mountId: 926 })] }, /job_42/],
    ['cgroup-file', { files: [file('/sys/fs/cgroup/system.slice/slurmstepd.scope/job_42/cgroup.events', { mountId: 944 })] }, /job_42/],
    ['hardware-file', { files: [file('/sys/devices/pci0000:00/0000:00:1f.0/vendor')] }, /hardware/],
  ]
  // One table row as one argument: jest takes a further parameter of the function for a callback to wait for.
  test.each(cases.map((row) => ({ row })))('$row.0: $row.2', ({ row: [kind, change, message, around] }) => {
    expect(found(change, around)).toEqual([{ kind, message: expect.stringMatching(message) as unknown, remedy: expect.stringMatching(/\.$/) as unknown }])
    expect(found(change, around)[0]?.message).toContain('python3 (PID 1001 in the sandbox)')
  })

  test('a stopped guard is the job\'s, with the command that lets it go on', () => {
    expect(found({}, { guardStopped: true })).toEqual([{ kind: 'stopped-guard', message: expect.stringContaining('stopped') as unknown, remedy: expect.stringContaining('scancel --batch --signal=CONT 42') as unknown }])
  })
})

describe('what CRIU saves is no blocker', () => {
  test.each<[string, Partial<ProcessFacts>]>([
    ['a plain process', {}],
    ['a zombie', { state: 'Z', program: undefined, namespaces: {}, addressSpace: { used: 0, limit: Infinity } }],
    ['an open eventfd, timerfd, signalfd and inotify', { descriptors: ['anon_inode:[eventfd]', 'anon_inode:[timerfd]', 'anon_inode:[signalfd]', 'anon_inode:inotify'].map((link, fd) => descriptor(link, { fd })) }],
    ['io_uring, which has a rule of its own', { descriptors: [descriptor('anon_inode:[io_uring]')] }],
    ['a plain pipe', { descriptors: [descriptor('pipe:[163]', { fdinfo: 'pos:\t0\nflags:\t02000001\n' })] }],
    ['sockets of common kinds', { descriptors: ['UNIX', 'UNIX-STREAM', 'TCP', 'TCPv6', 'UDP', 'UDPv6', 'NETLINK', 'PACKET', 'PING', ''].map((protocol, fd) => descriptor(`socket:[${fd + 50}]`, { fd, protocol })) }],
    ['an epoll with what it watches', { descriptors: [descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo }), descriptor(`socket:[1457621]`, { fd: 4, protocol: 'UNIX-STREAM' })] }],
    ['an epoll whose file is open under another number', { descriptors: [descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo }), descriptor(`socket:[1457621]`, { fd: 9, protocol: 'UNIX-STREAM' })] }],
    ['an epoll that watches a terminal', { descriptors: [descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo })], files: [file('/dev/pts/3', { fd: 4 })] }],
    ['a pidfd of the job\'s', { descriptors: [descriptor('anon_inode:[pidfd]', { fdinfo: pidfdInfo(1000) })] }],
    ['a pidfd of a process that has ended', { descriptors: [descriptor('anon_inode:[pidfd]', { fdinfo: pidfdInfo(-1) })] }],
    ['memory with a name only', { files: [file('/memfd:x', { deleted: true, mountId: 1 }), file('/dev/zero', { deleted: true, mountId: 1 })] }],
    ['a deleted program without x bits: its mode is in the image', { program: { path: '/home/alice/own', mode: 0o100600, deleted: true } }],
    ['the highest descriptor that can be', { highestFd: 19_936 }],
    ['a file at the root of a hierarchy, alike on every node', { files: [file('/sys/fs/cgroup/cgroup.controllers', { mountId: 944 })] }],
    ['the number of CPUs, and a virtual device', { files: [file('/sys/devices/system/cpu/online'), file('/sys/devices/virtual/net/lo/mtu', { fd: 4 })] }],
    ['a namespace of root\'s own user', { uids: [1001, 1001, 1001, 1001] }],
    ['a limit on address space with room', { addressSpace: { used: 15e6, limit: 16e6 } }],
  ])('%s', (_, change) => {
    expect(found(change)).toEqual([])
  })

  test('an inherited epoll, where the parent has all it watches', () => {
    const epoll = descriptor('anon_inode:[eventpoll]', { fdinfo: epollInfo })
    const parent = process({ descriptors: [epoll, descriptor(`socket:[1457621]`, { fd: 4, protocol: 'UNIX-STREAM' })] })
    const child = process({ pid: 1002, parent: 1001, descriptors: [epoll] })
    expect(blockersOf([rootProcess, parent, child], surroundings)).toEqual([])
    // The other way round CRIU meets it first where it is not complete.
    expect(blockersOf([rootProcess, { ...parent, descriptors: child.descriptors }, { ...child, descriptors: parent.descriptors }], surroundings).map(({ kind, message }) => `${kind} ${message}`)).toEqual([expect.stringContaining('escaped-epoll python3 (PID 1001') as unknown])
  })

  test('a listener is named once, by the process that made it', () => {
    const listener = descriptor('socket:[5]', { protocol: 'TCP' })
    const waiting = { listeners: [{ inode: '5', waiting: 1, address: 'port 80 of 0.0.0.0' }] }
    const all = [rootProcess, process({ descriptors: [listener] }), process({ pid: 1002, parent: 1001, descriptors: [listener] })]
    expect(blockersOf(all, { ...surroundings, ...waiting }).map(({ message }) => message)).toEqual([expect.stringContaining('PID 1001') as unknown])
  })
})

describe('figures', () => {
  test('the room CRIU needs above the highest descriptor, as choose_service_fd_base() has it', () => {
    expect([256, 1024, 20_000, 1_048_576].map(highestRestorableFd)).toEqual([224, 992, 19_936, 1_048_544])
  })

  test('the address space CRIU needs grows with the largest process: arguments of 16 bytes for each page', () => {
    expect([0, 15e6, 2 ** 30].map(parasiteBytes)).toEqual([262_144, 323_584, 4_456_448])
    expect(kindsOf({ addressSpace: { used: 2 ** 34, limit: 2 ** 34 + 2 ** 25 } })).toEqual(['address-space'])
  })
})

test('a save waits a moment for what may be over, and for nothing else', () => {
  const kinds = (...list: string[]): boolean => mayPass(list.map((kind) => ({ kind: kind as 'vfork', message: '', remedy: '' })))
  expect([kinds('vfork'), kinds('unaccepted-connection', 'vfork'), kinds(), kinds('vfork', 'identity')]).toEqual([true, true, false, false])
})
