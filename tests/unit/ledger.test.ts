import { describe, expect, it } from '@jest/globals'
import { anyAbsoluteTimer, hasRealtimeTimers } from '../../daemon/core/absolute-timers.ts'
import { hasKeys, keysOf } from '../../daemon/core/keys.ts'
import { formatCpuMask, mapCpus, parseCpuList, parseCpuMask, parseLedger, putInput, readFailures, readRecord, recordInput, socketOptions, speculationObstacles, threadObstacles, type Ledger } from '../../daemon/core/ledger.ts'

/** A generator of the same numbers each time (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const empty: Ledger = { version: 1, stepCpus: [0, 1], affinities: [], sockets: [], groups: [], timers: [] }
const at = (name: string): number => socketOptions.findIndex((option) => option.name === name)

describe('CPUs of a thread in a new allocation', () => {
  it('are at the same places among those of the step, as many where there are enough, and never others', () => {
    const random = numbers(16)
    const some = (): number[] => Array.from({ length: 128 }, (_, cpu) => cpu).filter(() => random(3) === 0)
    for (let round = 0; round < 500; round++) {
      const [before, now] = [some(), some()]
      const own = before.filter(() => random(2) === 0)
      const { cpus, tooFew } = mapCpus(own, before, now)
      expect(cpus.every((cpu) => now.includes(cpu))).toBe(true)
      if (own.length === before.length) expect(cpus).toEqual(now)
      else if (now.length >= before.length) expect(cpus.map((cpu) => now.indexOf(cpu))).toEqual(own.map((cpu) => before.indexOf(cpu)))
      else if (!tooFew) expect(cpus).toHaveLength(own.length)
    }
  })

  it('are all of the step for a thread that was allowed all, or more', () => {
    expect(mapCpus([0, 1, 2, 3], [1, 2], [5, 6, 7])).toEqual({ cpus: [5, 6, 7], tooFew: false })
  })

  it('begin anew where the step has fewer, which is told', () => {
    expect(mapCpus([6, 7], [4, 5, 6, 7], [0, 1, 2])).toEqual({ cpus: [0, 2], tooFew: true })
    const ledger = { ...empty, stepCpus: [0, 1, 2], affinities: [{ cpus: [2], threads: [{ pid: 1002, tid: 1003 }] }] }
    expect(putInput(ledger, [4, 5]).notices[0]).toMatch(/PID 1002 were bound to CPUs 2 of 3; the job has 2 now/)
  })

  it('stay as they are restored when nobody knows those of the step', () => {
    expect(mapCpus([1], [0, 1], []).cpus).toEqual([])
    expect(mapCpus([1], [], [0, 1]).cpus).toEqual([])
  })

  it('are read from lists and masks, and written in whole words', () => {
    expect(parseCpuList('0-2,8')).toEqual([0, 1, 2, 8])
    for (const cpus of [[0], [63], [64, 127], [3, 200]]) {
      expect(parseCpuMask(formatCpuMask(cpus))).toEqual(cpus)
      expect(formatCpuMask(cpus).length % 16).toBe(0)
    }
  })
})

describe('the ledger', () => {
  it('knows each option once, by name and by number, and no more than the helper has room for', () => {
    expect(new Set(socketOptions.map(({ name }) => name)).size).toBe(socketOptions.length)
    expect(new Set(socketOptions.map(({ level, number }) => `${level} ${number}`)).size).toBe(socketOptions.length)
    expect(socketOptions.length).toBeLessThanOrEqual(160)
    expect(Math.max(...socketOptions.map(({ length = 4 }) => length))).toBeLessThanOrEqual(64)
    expect(recordInput([1000])).toMatch(/^option 1 5 4 -\n[^]*\nprocess 1000\n$/)
  })

  it('puts back what it has recorded', () => {
    const answers = [`thread 1001 1001 0100000000000000`, `thread 1001 1002 0300000000000000`, `socket 1001 5 ${at('SO_PRIORITY')}=03000000 ${at('IPV6_UNICAST_IF')}=@lo`, 'group 1001 6 2 lo ef010203 0', 'timer 1001 7 1 1800000000 0 0 0', 'done', ''].join('\n')
    const ledger = readRecord(answers, [0, 1])
    expect(parseLedger(JSON.stringify(ledger))).toEqual(ledger)
    expect(ledger.sockets).toEqual([{ pid: 1001, fd: 5, options: { SO_PRIORITY: '03000000', IPV6_UNICAST_IF: '@lo' } }])
    const lines = putInput(ledger, [6, 7]).input.split('\n').filter((line) => !line.startsWith('option '))
    expect(lines).toEqual(['affinity 1001 4000000000000000', 'affinity 1002 c000000000000000', `socket 1001 5 ${at('SO_PRIORITY')}=03000000 ${at('IPV6_UNICAST_IF')}=@lo`, 'group 1001 6 2 lo ef010203 0', 'timer 1001 7 1 1800000000 0 0 0', ''])
  })

  it('ignores options that a later Stint has recorded', () => {
    expect(putInput({ ...empty, sockets: [{ pid: 1, fd: 2, options: { SO_OF_TOMORROW: '01' } }] }, []).input).toMatch(/\nsocket 1 2 \n$/)
  })

  it('is damaged when it is no ledger', () => {
    for (const text of ['', '{', '{}', '{"version":2}']) expect(() => parseLedger(text)).toThrow(expect.objectContaining({ code: 'E_IMAGE_DAMAGED' }))
  })

  it('is refused when the helper did not come to its end', () => {
    expect(() => readRecord('thread 1 1 01\n', [])).toThrow(expect.objectContaining({ code: 'E_COMMAND_FAILED' }))
  })

  it('tells by name what could not be put back, but not what the kernel changes by itself', () => {
    const ledger = { ...empty, sockets: [{ pid: 1001, fd: 5, options: {} }] }
    const answers = [
      `failed socket 1001 5 ${at('TCP_CONGESTION')} 62627200 637562 No such file or directory`, `failed socket 1001 5 ${at('TCP_QUICKACK')} 00000000 01000000 differs`,
      `failed socket 1001 5 ${at('SO_PEERCRED')} e9030000e9030000e9030000 0100000000000000e9030000 differs`, 'failed group 1001 6 2 eth7 ef010203 No such device', 'done',
    ].join('\n')
    expect(readFailures(answers, ledger)).toEqual([
      'descriptor 5 of PID 1001: TCP_CONGESTION was 62627200 and is 637562 (No such file or directory)',
      'descriptor 5 of PID 1001: SO_PEERCRED says PID 1, uid 0, gid 1001; it was PID 1001, uid 1001, gid 1001',
      'descriptor 6 of PID 1001: the multicast group could not be joined again (2 eth7 ef010203 No such device)',
    ])
  })

  it('names threads that have something of their own', () => {
    const found = threadObstacles('own-fs 1002 1005\nown-files 1002 1006\ndone\n', new Map([[1002, 'worker']]))
    expect(found.map(({ kind }) => kind)).toEqual(['own-fs', 'own-files'])
    expect(found[0]?.message).toMatch(/^thread 1005 of worker \(PID 1002/)
  })
})

describe('timers set to a time of day', () => {
  const list = (clock: number): string => `cpu: 0\n clock 0:\nactive timers:\n #0: <0>, hrtimer_wakeup, S:01\n clock ${clock}:\n  .index: ${clock}\nactive timers:\n #0: <0>, posix_timer_fn, S:01\n`

  it('are those that the kernel queues by real time', () => {
    expect([1, 5].map((clock) => anyAbsoluteTimer(list(clock)))).toEqual([true, true])
    expect([0, 2, 3, 4].map((clock) => anyAbsoluteTimer(list(clock)))).toEqual([false, false, false, false])
    expect(anyAbsoluteTimer(list(1).replace('posix_timer_fn', 'timerfd_tmrproc'))).toBe(false)
  })

  it('are looked for in processes with timers of CLOCK_REALTIME alone', () => {
    expect(hasRealtimeTimers('ID: 0\nsignal: 14/0\nnotify: signal/pid.9\nClockID: 0\n')).toBe(true)
    expect(hasRealtimeTimers('ID: 0\nsignal: 14/0\nnotify: signal/pid.9\nClockID: 1\n')).toBe(false)
  })
})

describe('keys', () => {
  const text = [
    '0a7f5d2f I--Q---     1 perm 3f010000  1001  1001 user      krb: ticket: 6', '0b7f5d2f I--Q---     1 expd 3f010000  1001  1001 user      old: 6', '0c7f5d2f IR-Q---     1 perm 3f010000  1001  1001 user      revoked: 6',
    '0d7f5d2f I--Q---     1 perm 3f030000  1001 65534 keyring   _ses: 1', '0e7f5d2f I--Q---     1  10m 3f010000  1002  1002 user      other: 6', '0f7f5d2f I--Q---     1   9h 3f010000  1001    -1 rxrpc     afs@site: 1',
  ].join('\n')

  it('are the usable ones of the user, no keyrings', () => {
    expect(keysOf(text, 1001)).toEqual(['user krb: ticket', 'rxrpc afs@site'])
  })

  it('are not looked for where the kernel counts none', () => {
    expect(hasKeys('    0:     9 8/8 3/1000000 48/25000000\n 1001:     2 2/2 2/200 28/20000\n', 1001)).toBe(true)
    expect(hasKeys('11001:     9 8/8 3/1000000 48/25000000\n', 1001)).toBe(false)
  })
})

describe('attributes and what is lost', () => {
  const ledger = readRecord('attribute io-priority 1003 16390\nattribute personality 1002 262144\nunread 1002 5 inotify\nunread 1002 6 datagrams\nwatch-flags 1002 5\ndone\n', [0])

  it('are recorded, and put back as they were', () => {
    expect(ledger.attributes).toEqual(['io-priority 1003 16390', 'personality 1002 262144'])
    const { input, notices } = putInput(parseLedger(JSON.stringify(ledger)), [0])
    expect(input).toMatch(/^attribute io-priority 1003 16390\nattribute personality 1002 262144$/m)
    expect(notices).toEqual([expect.stringMatching(/descriptor 5 .*inotify events/), expect.stringMatching(/descriptor 6 .*datagrams/), expect.stringMatching(/descriptor 5 .*IN_ONESHOT/)])
  })

  it('are told with what they mean where they cannot be put back', () => {
    expect(readFailures('failed attribute personality 1002 262144 0\ndone\n', ledger)).toEqual([expect.stringMatching(/^personality of process 1002 was 262144 and is 0: only the process/)])
  })

  it('are read from images of a Stint that had neither', () => {
    expect(putInput(parseLedger(JSON.stringify(empty)), [0]).notices).toEqual([])
  })
})

describe('mitigations against speculation', () => {
  const [plain, safe] = [new Map([['Speculation_Store_Bypass', 'thread vulnerable'], ['SpeculationIndirectBranch', 'conditional enabled']]), new Map([['Speculation_Store_Bypass', 'thread force mitigated']])]
  const process = { pid: 1002, comm: 'browser' }

  it('keep a process from being saved that has switched them on for itself', () => {
    expect(speculationObstacles(process, safe, plain).map(({ kind }) => kind)).toEqual(['speculation'])
    expect(speculationObstacles(process, new Map([['SpeculationIndirectBranch', 'conditional disabled']]), plain)).toHaveLength(1)
  })

  it('do not where the payload\'s root has them as well, or the kernel says nothing', () => {
    expect(speculationObstacles(process, safe, safe)).toEqual([])
    expect(speculationObstacles(process, plain, plain)).toEqual([])
    expect(speculationObstacles(process, new Map(), plain)).toEqual([])
  })
})
