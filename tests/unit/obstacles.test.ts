import { describe, expect, test } from '@jest/globals'
import { connectionObstacles, insideTree, landlockObstacles, leaseObstacles, outsideTree, processObstacles, type LeasableFile, type ObservedProcess } from '../../daemon/core/obstacles.ts'

/** What the preflight refuses, so that CRIU loses nothing in silence. */

const root = 1000

function process(pid: number, parent: number, change: Partial<ObservedProcess> = {}): ObservedProcess {
  return { pid, parent, comm: `p${pid}`, state: 'S', tracer: 0, userNamespace: 'user:[1]', sockets: [], anonymous: [], ...change }
}

const tree = [process(root, 1), process(1001, root), process(1002, 1001)]

describe('the tree of a payload', () => {
  test('is complete when everything descends from its root', () => {
    expect(outsideTree(tree, root)).toEqual([])
  })

  test('lacks what hangs below PID 1 beside the root, with its children', () => {
    expect(outsideTree([...tree, process(7, 1), process(8, 7)], root).map((p) => p.pid)).toEqual([7, 8])
  })

  test('does not count who entered from outside, with their children', () => {
    expect(outsideTree([...tree, process(2000, 0), process(2001, 2000)], root)).toEqual([])
  })

  test('has nobody in it who entered from outside, or stands beside it', () => {
    expect(insideTree([...tree, process(7, 1), process(2000, 0), process(1500, 1400)], root)).toEqual(tree)
  })

  test('is judged to an end when a parent is missing or the picture was torn into a ring', () => {
    expect(outsideTree([process(1500, 1400)], root)).toEqual([])
    expect(outsideTree([process(5, 6), process(6, 5)], root).map((p) => p.pid)).toEqual([5, 6])
  })
})

describe('an obstacle', () => {
  test.each([
    ['lost-process', [...tree, process(7, 1, { comm: 'daemon' })], 'daemon (PID 7 in the sandbox) is outside the job\'s process tree and would be lost'],
    ['traced', [...tree, process(1003, 1001, { tracer: 1004 })], 'p1003 (PID 1003 in the sandbox) is being traced'],
    ['user-namespace', [...tree, process(1003, 1001, { userNamespace: 'user:[2]' })], 'runs in its own user namespace'],
    ['srun', [...tree, process(1003, 1001, { comm: 'srun' })], 'holds connections to Slurm'],
    ['io-uring', [...tree, process(1003, 1001, { anonymous: ['anon_inode:[io_uring]'] })], 'uses io_uring'],
  ])('of kind %s is found, with a remedy', (kind, processes, message) => {
    const found = processObstacles(processes, root, 'user:[1]')
    expect(found).toEqual([{ kind, message: expect.stringContaining(message) as unknown, remedy: expect.stringMatching(/\.$/) as unknown }])
  })

  test('is not a plain process, a zombie without namespace, or another kind of anonymous file', () => {
    expect(processObstacles([...tree, process(1003, 1001, { state: 'Z', userNamespace: undefined }), process(1004, 1001, { anonymous: ['anon_inode:[eventfd]', 'pipe:[5]'] })], root, 'user:[1]')).toEqual([])
  })
})

describe('a connection', () => {
  const processes = [process(1001, root, { sockets: ['77'] })]
  const to = (remoteAddress: string, remotePort: number, inode = '77') => [{ inode, remoteAddress, remotePort, isEstablished: true }]
  const inside = (address: string): boolean => address === '127.0.0.1'

  test.each([6817, 6818, 6819])('to Slurm at port %d stands in the way in every network', (port) => {
    for (const net of ['private', 'host'] as const) expect(connectionObstacles(to('10.0.0.1', port), processes, net, inside).map((o) => o.kind)).toEqual(['slurm-connection'])
  })

  test('to the outside stands in the way on the node\'s own network only', () => {
    expect(connectionObstacles(to('10.0.0.1', 80), processes, 'private', inside)).toEqual([])
    expect(connectionObstacles(to('10.0.0.1', 80), processes, 'host', inside)).toMatchObject([{ kind: 'outside-connection', message: expect.stringContaining('10.0.0.1:80') as unknown }])
  })

  test('within the sandbox, or of a process outside of it, does not', () => {
    expect(connectionObstacles(to('127.0.0.1', 6817), processes, 'host', inside)).toEqual([])
    expect(connectionObstacles(to('10.0.0.1', 6817, '78'), processes, 'host', inside)).toEqual([])
  })
})

describe('a lease', () => {
  const leased = (change: Partial<LeasableFile> = {}): LeasableFile => ({ pid: 1002, path: '/shared/a', fd: 3, leased: true, deleted: false, ...change })
  const messages = (...files: LeasableFile[]): string[] => leaseObstacles(files, (path) => path.startsWith('/tmp/')).map(({ message }) => message)

  test('on a file that stays where it is, and is read by its holder\'s own descriptor, is no obstacle', () => {
    expect(messages(leased(), leased({ leased: false, path: '/tmp/b' }))).toEqual([])
  })

  test.each([
    ['travels', [leased({ path: '/tmp/a' })], /PID 1002 holds a lease on \/tmp\/a, which must travel/],
    ['is deleted', [leased({ deleted: true })], /is deleted/],
    ['is mapped by whomever', [leased(), leased({ pid: 1003, fd: undefined, leased: false })], /PID 1002 .* is mapped/],
  ] as const)('on a file that %s is one', (_, files, message) => {
    expect(messages(...files)).toEqual([expect.stringMatching(message)])
  })
})

test('every process that may be restricted by Landlock is named, with a remedy', () => {
  const found = landlockObstacles([{ pid: 1003, comm: 'browser' }, { pid: 1004, comm: 'helper' }])
  expect(found.map(({ kind, message }) => [kind, message.split(' is, ')[0]])).toEqual([
    ['landlock', 'browser (PID 1003 in the sandbox)'], ['landlock', 'helper (PID 1004 in the sandbox)'],
  ])
  expect(found.every(({ remedy }) => remedy !== '')).toBe(true)
})
