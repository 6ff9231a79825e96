import { describe, expect, test } from '@jest/globals'
import { boundSockets, holdsLease, isOwnFault, memoryNeeded, planRehearsal, rehearsalView, type RehearsalFacts } from '../../daemon/core/rehearsal.ts'
import { triggers } from '../../daemon/core/states.ts'

const facts: RehearsalFacts = { mode: 'always', trigger: 'request', rehearsedBefore: false, secondsLeft: Infinity, predictedSeconds: 2, marginSeconds: 2 }

describe('a checkpoint is rehearsed', () => {
  test.each(triggers)('when it is made by %s, unless Slurm ends the job anyway', (trigger) => {
    const isEnding = trigger === 'walltime' || trigger === 'preemption'
    for (const mode of ['first', 'always'] as const) expect(planRehearsal({ ...facts, mode, trigger }).what).toBe(isEnding ? 'none' : 'rehearse')
    expect(planRehearsal({ ...facts, mode: 'never', trigger })).toEqual({ what: 'none' })
  })

  test('once per stint, or always', () => {
    expect(planRehearsal({ ...facts, mode: 'first', rehearsedBefore: true })).toEqual({ what: 'none' })
    expect(planRehearsal({ ...facts, mode: 'always', rehearsedBefore: true }).what).toBe('rehearse')
  })

  test('only while there is time for it, and for a checkpoint after it', () => {
    expect(planRehearsal({ ...facts, secondsLeft: 22 })).toEqual({ what: 'rehearse', seconds: 16 })
    expect(planRehearsal({ ...facts, secondsLeft: 21.9 })).toMatchObject({ what: 'skip', reason: expect.stringContaining('walltime') as unknown })
  })
})

describe('the view of a rehearsal', () => {
  const file = (path: string, more: Partial<{ deleted: boolean; writable: boolean; kind: string }> = {}) => ({ path, deleted: false, writable: false, kind: 'file', ...more })

  test('has overlays where names come and go', () => {
    expect(rehearsalView([file('/home/a/gone', { deleted: true, writable: true }), file('/home/b/fifo', { kind: 'fifo', writable: true }), file('/home/c/.nfs00a1', { writable: true }), file('/home/a/too', { deleted: true })], ['/run/d/socket']))
      .toEqual({ over: ['/home/a', '/home/b', '/home/c', '/run/d'], write: [] })
  })

  test('lets files be opened for writing that are', () => {
    expect(rehearsalView([file('/home/a/out', { writable: true }), file('/home/a/out', { writable: true }), file('/home/a/in'), file('/home/a', { kind: 'directory' })], [])).toEqual({ over: [], write: ['/home/a/out'] })
  })

  test('has nothing of trees that are the sandbox\'s own', () => {
    expect(rehearsalView([file('/tmp/x', { deleted: true }), file('/dev/shm/y', { writable: true }), file('/dev/null', { kind: 'character-device', writable: true })], ['/tmp/socket'])).toEqual({ over: [], write: [] })
  })

  test('has nothing of memory that has a name only', () => {
    expect(rehearsalView(['/SYSV0000002a', '/memfd:shared', '/anon_hugepage'].map((path) => file(path, { deleted: true, writable: true })), [])).toEqual({ over: [], write: [] })
  })

  test('knows the root directory', () => {
    expect(rehearsalView([file('/gone', { deleted: true })], []).over).toEqual(['/'])
  })
})

test('bound sockets are read from the kernel\'s table', () => {
  const table = 'Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/a socket\n0000000000000000: 00000003 00000000 00000000 0001 03 4712\n0000000000000000: 00000002 00000000 00010000 0001 01 4713 @abstract\n0000000000000000: 00000002 00000000 00000000 0002 01 4714 relative\n'
  expect([...boundSockets(table)]).toEqual([['4711', '/run/a socket'], ['4714', 'relative']])
})

test('leases are told from locks, and from those of others', () => {
  const locks = '1: FLOCK  ADVISORY  WRITE 100 00:2a:5 0 EOF\n2: LEASE  ACTIVE    WRITE 200 00:2a:6 0 EOF\n3: DELEG  BREAKER   READ 300 00:2a:7 0 EOF\n'
  expect([100, 200, 300, 400].map((pid) => holdsLease(locks, [pid]))).toEqual([false, true, true, false])
})

test('a second copy needs more memory than the image has bytes', () => {
  expect(memoryNeeded(0)).toBeGreaterThan(0)
  expect(memoryNeeded(4e9)).toBeGreaterThan(4e9)
})

test.each([
  ["Can't open file home/x on restore: No such file or directory", 1, false],
  ["Can't create ghost: Read-only file system", 1, true],
  ['criu ended with 137: ', 137, true],
  ["Can't bind inet socket back", 1, false],
])('"%s" with exit code %d is the rehearsal\'s own fault: %s', (message, code, own) => {
  expect(isOwnFault(message, code)).toBe(own)
})
