import { describe, expect, test } from '@jest/globals'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { allotBlock, allotNetwork, formatIpv4, lowestVni, memberAddress, memberMac, parseIpv4 } from '../../daemon/core/addresses.ts'
import { actAt, assumedSeconds, nextLook, predict, type Measurement } from '../../daemon/core/deadline.ts'
import { endingOf } from '../../daemon/core/ending.ts'
import { StintError, asStintError, errorKinds, isStintError, systemCode } from '../../daemon/core/errors.ts'
import { parseFault } from '../../daemon/core/fault-points.ts'
import { placeOf } from '../../daemon/core/file-places.ts'
import { defaultOptions, knownOptions, parseOptions } from '../../daemon/core/options.ts'
import { cronExpression, parseEvery, withJitter, youngDaly } from '../../daemon/core/schedule.ts'
import { assertMove, memberMoves } from '../../daemon/core/states.ts'
import { said } from '../support/errors.ts'

describe('the options of --stint', () => {
  test.each([
    ['', defaultOptions],
    ['net=host', { ...defaultOptions, net: 'host' }],
    ['signal=pass,net=private', { ...defaultOptions, signal: 'pass' }],
    ['net=host,', { ...defaultOptions, net: 'host' }],
    ['norollback=*.log', { ...defaultOptions, norollback: '*.log' }],
    ['norollback=/scratch/**:core.?:/a=b,net=host', { ...defaultOptions, net: 'host', norollback: '/scratch/**:core.?:/a=b' }],
    ['fallback=start,continue=submit', { ...defaultOptions, fallback: 'start', continue: 'submit' }],
    ['every=30m,cron=0+30_*/6_*_*_1-5', { ...defaultOptions, every: '30m', cron: '0+30_*/6_*_*_1-5' }],
    ['every=auto', { ...defaultOptions, every: 'auto' }],
  ])('%j is understood', (text, expected) => {
    expect(parseOptions(text)).toEqual(expected)
  })

  test.each([
    ['nett=host', '--stint does not know "nett=host"'],
    ['net', '--stint does not know "net"'],
    ['net=', '--stint does not know "net="'],
    ['=host', '--stint does not know "=host"'],
    ['net=private=x', '--stint does not know "net=private=x"'],
    ['net=HOST', '--stint does not know "net=HOST"'],
    [' net=host', '--stint does not know " net=host"'],
    [',', '--stint does not know ""'],
    [',net=host', '--stint does not know ""'],
    ['net=host,net=host', '--stint got a key twice: "net=host"'],
    ['toString=x', '--stint does not know "toString=x"'],
    ['__proto__=x', '--stint does not know "__proto__=x"'],
    ['norollback', '--stint does not know "norollback"'],
    ['norollback=', '--stint does not know "norollback="'],
    ['norollback=data/x', '--stint does not know "norollback=data/x"'],
    ['norollback=a:', '--stint does not know "norollback=a:"'],
    ['every=30', '--stint does not know "every=30"'],
    ['every=0m', '--stint does not know "every=0m"'],
    ['every=1m30s', '--stint does not know "every=1m30s"'],
    ['cron=0_*_*_*', '--stint does not know "cron=0_*_*_*"'],
    ['cron=0 * * * *', '--stint does not know "cron=0 * * * *"'],
    ['cron=60_*_*_*_*', '--stint does not know "cron=60_*_*_*_*"'],
    ['cron=0,30_*_*_*_*', '--stint does not know "cron=0"'],
    ['norollback=a,norollback=b', '--stint got a key twice: "norollback=b"'],
  ])('%j is refused as the plugin refuses it', async (text, message) => {
    expect(await said(() => parseOptions(text))).toBe(`E_BAD_OPTION: ${message}`)
  })

  test('are the ones that the plugin knows', () => {
    const source = readFileSync(join(import.meta.dirname, '../../plugins/spank/plugin/options.c'), 'utf8')
    const rows = [...source.matchAll(/\{\.key = "(\w+)", (.*)\},$/gm)].map(([, key = '', rest = '']) => {
      const expression = /\.expression = "(.*)"/.exec(rest)?.[1]
      return [key, expression === undefined ? [...rest.matchAll(/"(\w+)"/g)].map((m) => m[1]) : new RegExp(expression)]
    })
    expect(Object.fromEntries(rows)).toEqual(knownOptions)
  })
})

describe('states of a member', () => {
  const moves: Record<string, readonly string[]> = memberMoves

  test.each([
    [['opening', 'running', 'dumping', 'held', 'ended']],
    [['opening', 'restoring', 'running', 'dumping', 'running', 'ended']],
  ] as const)('may go %j', (path) => {
    for (const [index, to] of path.entries()) if (index > 0) assertMove(moves, path[index - 1] ?? '', to)
  })

  test.each([['opening', 'dumping'], ['held', 'dumping'], ['ended', 'running'], ['restoring', 'dumping']] as const)('must not go from %s to %s', async (from, to) => {
    expect(await said(() => { assertMove(moves, from, to) })).toBe(`E_INTERNAL: illegal move from ${from} to ${to}`)
  })

  test('all but the last one have a next one, and all are known', () => {
    const states = Object.keys(moves)
    for (const next of Object.values(moves)) for (const state of next) expect(states).toContain(state)
    expect(states.filter((state) => moves[state]?.length === 0)).toEqual(['ended'])
  })
})

describe('the deadline', () => {
  const rules = { safety: 3, marginSeconds: 2, assumedBytesPerSecond: 200e6 }
  const times = (bytes: number, ...seconds: number[]): Measurement[] => seconds.map((one) => ({ bytes, seconds: one, objectSeconds: 0 }))

  test('is the end less the prediction, what others need beside it, the spread with its factor, and the margin', () => {
    expect(actAt(1000, { bytes: 1, seconds: 10, spreadSeconds: 2, measured: 9 }, 5, rules)).toBe(977)
  })

  test('assumes a rate while none was measured, and doubts it', () => {
    expect(predict(400e6, 0, [], rules)).toEqual({ bytes: 400e6, seconds: 2.3, spreadSeconds: 2.3, measured: 0 })
  })

  test('counts on the median of what was measured, and on how much that differs', () => {
    expect(predict(1e9, 0, times(1e9, 4, 5, 9, 6, 5), rules)).toEqual({ bytes: 1e9, seconds: 5, spreadSeconds: 1, measured: 5 })
    expect(predict(1e9, 0, times(1e9, 4, 5, 5, 5, 60), rules)).toMatchObject({ seconds: 5, spreadSeconds: 0.5 })
  })

  test('scales from other sizes, and prefers the nearest', () => {
    expect(predict(2e9, 0, times(1e9, 5.3, 5.3, 5.3), rules).seconds).toBeCloseTo(10.3)
    const small = times(1e6, ...Array.from({ length: 9 }, () => 3))
    const large = times(3e9, ...Array.from({ length: 9 }, () => 30))
    expect(predict(2e6, 0, [...large, ...small], rules).seconds).toBeCloseTo(3, 0)
    expect(predict(2e9, 0, [...small, ...large], rules).seconds).toBeCloseTo(20, 0)
  })

  test('tells the fixed cost from the rate where sizes differ, by what most pairs of them say', () => {
    const measured = [...times(100e6, 0.5, 0.4, 0.45, 9), ...times(1500e6, 1.3, 1.2, 1.25)]
    const { seconds, spreadSeconds } = predict(500e6, 0, measured, rules)
    expect(seconds).toBeCloseTo(0.45 + 0.4 * (0.8 / 1.4), 1)
    expect(spreadSeconds).toBeLessThan(0.1)
  })

  test('believes no rate of ten times the assumed one and more', () => {
    const same = [...times(100e6, 0.5, 0.5, 0.5), ...times(200e6, 0.5, 0.5, 0.5)]
    expect(predict(1000e6, 0, same, rules).seconds).toBeCloseTo(0.5 + 0.9 / 2, 1)
  })

  test('takes what far smaller ones took beyond the assumed rate for fixed cost, and doubts the rate', () => {
    const { seconds, spreadSeconds } = predict(2e9, 0, times(45e6, 6.9, 4.7, 5, 3.2, 4.6), rules)
    expect(seconds).toBeCloseTo(predict(2e9, 0, [], rules).seconds + 4.7 - predict(45e6, 0, [], rules).seconds)
    expect(spreadSeconds).toBe(seconds)
  })

  test('with fewer than three measurements takes the prediction for its spread', () => {
    expect(predict(1e9, 0, times(1e9, 5, 5), rules)).toMatchObject({ seconds: 5, spreadSeconds: 5 })
  })

  describe('with objects', () => {
    /** Numbers from 0 to 1 that look random and are the same in every run (mulberry32). */
    const random = (seed: number) => (): number => {
      seed = (seed + 0x6d2b79f5) | 0
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
    }
    /** A node that takes `factor` times what is assumed for objects, within a tenth. */
    const world = (seed: number): { next: () => Measurement; truth: (bytes: number, objectSeconds: number) => number } => {
      const draw = random(seed)
      const [factor, rate, fixed] = [0.3 * 30 ** draw(), 100e6 * 10 ** draw(), 0.1 + draw()]
      const truth = (bytes: number, objectSeconds: number): number => fixed + bytes / rate + factor * objectSeconds
      const next = (): Measurement => {
        const [bytes, objectSeconds] = [1e6 * 2000 ** draw(), draw() < 0.5 ? 0.005 : 3 * draw()]
        return { bytes, objectSeconds, seconds: truth(bytes, objectSeconds) * (0.95 + draw() / 10) }
      }
      return { next, truth }
    }
    const seeds = Array.from({ length: 200 }, (_, n) => n)
    const many = (seed: number): Measurement[] => {
      const { next } = world(seed)
      return Array.from({ length: 40 }, next)
    }

    test('assumes what each takes while nothing is known', () => {
      expect(assumedSeconds({ processes: 10, threads: 20, files: 8000, mappings: 500, connections: 100, copies: 8000 })).toBeCloseTo(1.649)
      expect(predict(0, 1.6, [], rules).seconds).toBeCloseTo(1.9)
      expect(predict(0, 1.6, [], rules).spreadSeconds).toBeCloseTo(1.9)
    })

    test('learns from few of the same kind how much longer they take here, without a rate for bytes', () => {
      const measured = [14, 13.5, 14.2].map((seconds) => ({ bytes: 5e6, seconds, objectSeconds: 1.6 }))
      expect(predict(5e6, 1.6, measured, rules).seconds).toBeCloseTo(14, 0)
      expect(predict(5e6, 0.8, measured, rules).seconds).toBeCloseTo(7.2, 0)
      // A job of another kind on the same node is not held for slow.
      expect(predict(5e6, 0.01, measured, rules).seconds).toBeLessThan(1)
    })

    test('keeps what they took from being taken for a rate of bytes, and the other way round', () => {
      const light = times(1e9, 5.3, 5.2, 5.4, 5.3).map((one) => ({ ...one, objectSeconds: 0.01 }))
      const small = times(10e6, 0.35, 0.34, 0.36).map((one) => ({ ...one, objectSeconds: 0.01 }))
      const heavy = times(10e6, 8.3, 8.4, 8.2).map((one) => ({ ...one, objectSeconds: 1.6 }))
      const all = [...light, ...heavy, ...small]
      expect(predict(2e9, 0.01, all, rules).seconds).toBeCloseTo(10.3, 0)
      expect(predict(1e9, 1.6, all, rules).seconds).toBeCloseTo(13.3, 0)
    })

    test('whatever bytes, rates and factor are: what is predicted is near what it takes, mostly within the spread that is added', () => {
      let late = 0
      for (const seed of seeds) {
        const { truth } = world(seed)
        const measured = many(seed)
        const draw = random(seed + 1000)
        const [bytes, objectSeconds] = [1e6 * 2000 ** draw(), 3 * draw()]
        const { seconds, spreadSeconds } = predict(bytes, objectSeconds, measured, rules)
        const wanted = truth(bytes, objectSeconds)
        expect(Math.abs(seconds - wanted)).toBeLessThan(0.35 * wanted)
        if (seconds + rules.safety * spreadSeconds < wanted) late++
      }
      expect(late).toBe(0)
    })

    test('is not led astray by one of ten that hung', () => {
      for (const seed of seeds) {
        const { truth } = world(seed)
        const measured = many(seed).map((one, n) => (n % 10 === 3 ? { ...one, seconds: one.seconds + 60 } : one))
        const { seconds } = predict(100e6, 1, measured, rules)
        expect(seconds).toBeGreaterThan(0.6 * truth(100e6, 1))
        expect(seconds).toBeLessThan(1.6 * truth(100e6, 1))
      }
    })

    test('is finite and doubtful by a tenth at least, with any past', () => {
      const draw = random(7)
      for (let n = 0; n < 500; n++) {
        const measured = Array.from({ length: Math.floor(draw() * 12) }, () => ({ bytes: Math.floor(draw() * 3) * 10 ** (draw() * 10), seconds: draw() * 20 + 0.001, objectSeconds: Math.floor(draw() * 3) * draw() * 5 }))
        const { seconds, spreadSeconds } = predict(10 ** (draw() * 11), draw() * 10, measured, rules)
        expect(seconds).toBeGreaterThan(0)
        expect(seconds).toBeLessThan(1e4)
        expect(spreadSeconds).toBeGreaterThanOrEqual(0.0999 * seconds)
      }
    })
  })

  test('does not change the order of the measurements it was given', () => {
    const measured = times(3, 3, 1, 2)
    predict(1, 0, measured, rules)
    expect(measured).toEqual(times(3, 3, 1, 2))
  })

  test('is looked at ever closer, never later than half the way', () => {
    expect([1e6, 60, 20, 1, 0.1, 0, -5].map(nextLook)).toEqual([30, 30, 10, 0.5, 0.2, 0.2, 0.2])
  })
})

describe('the reason why Slurm ends a job', () => {
  const job = { state: 'RUNNING', reason: 'None', restarts: 1, preemptTime: undefined }
  test.each([
    ['none', {}],
    ['suspended', { state: 'SUSPENDED' }],
    ['preempted', { preemptTime: 5 }],
    ['preempted', { state: 'COMPLETING', preemptTime: 5 }],
    ['preempted', { state: 'PREEMPTED' }],
    ['requeued', { state: 'COMPLETING', restarts: 2 }],
    ['requeued', { state: 'PENDING' }],
    ['requeued', { state: 'RUNNING', restarts: 2 }],
    ['timeout', { state: 'COMPLETING', reason: 'TimeLimit' }],
    ['timeout', { state: 'TIMEOUT' }],
    ['node-failure', { state: 'NODE_FAIL' }],
    ['cancelled', { state: 'COMPLETING' }],
    ['cancelled', { state: 'CANCELLED', preemptTime: 5 }],
    ['cancelled', { state: 'DEADLINE' }],
    ['cancelled', { state: 'OUT_OF_MEMORY' }],
  ])('%s: %j', (ending, words) => {
    expect(endingOf({ ...job, ...words }, 1)).toBe(ending)
  })
})

describe('periodic checkpoints', () => {
  test.each([['never', { kind: 'never' }], ['auto', { kind: 'auto' }], ['90s', { kind: 'interval', seconds: 90 }], ['30m', { kind: 'interval', seconds: 1800 }], ['2h', { kind: 'interval', seconds: 7200 }], ['1d', { kind: 'interval', seconds: 86_400 }]])('every=%s', (text, expected) => {
    expect(parseEvery(text)).toEqual(expected)
  })

  test('write cron expressions without blanks and commas', () => {
    expect(cronExpression('0+30_*/6_*_*_1-5')).toBe('0,30 */6 * * 1-5')
  })

  // No smaller total of checkpoints and repeated work, by Daly's complete model, is at another interval.
  test.each([[10, 20_000 * 3600], [60, 3600], [300, 7200]])('a checkpoint of %d s and a failure every %d s: the interval loses least', (cost, mtbf) => {
    const wall = (interval: number): number => (mtbf * (Math.exp((interval + cost) / mtbf) - 1)) / interval
    const best = youngDaly(cost, mtbf)
    expect(wall(best)).toBeLessThan(wall(best * 0.7))
    expect(wall(best)).toBeLessThan(wall(best * 1.4))
  })

  test('that cost more than twice the time between failures come no more often than these', () => {
    expect(youngDaly(100, 50)).toBe(50)
  })

  test('of jobs of one age are spread', () => {
    expect([0, 0.5, 1].map((random) => withJitter(100, random)).map(Math.round)).toEqual([90, 100, 110])
  })
})

describe('addresses', () => {
  test.each(['0.0.0.0', '100.64.0.1', '255.255.255.255'])('%s is read and written', (text) => {
    expect(formatIpv4(parseIpv4(text))).toBe(text)
  })

  test.each(['', '1.2.3', '1.2.3.', '1.2.3.4.5', '1.2.3.256', '1.2.3.-1', '1.2.3. 4', '0x1.2.3.4', '1e1.2.3.4', 'a.b.c.d', '::1'])('%j is no address', async (text) => {
    expect(await said(() => parseIpv4(text))).toBe(`E_BAD_CONFIG: "${text}" is no IPv4 address`)
  })

  test('of a job are the same everywhere, a block for its members', () => {
    expect(allotBlock('100.64.0.0/10', 5, new Set())).toBe('100.64.5.0/24')
    expect(allotBlock('100.64.0.0/10', 261, new Set())).toBe('100.65.5.0/24')
    expect([0, 1, 253].map((member) => memberAddress('100.64.5.0/24', member))).toEqual(['100.64.5.1', '100.64.5.2', '100.64.5.254'])
  })

  test.each([-1, 254, 1.5, NaN])('%d is no member of a block', async (member) => {
    expect(await said(() => memberAddress('100.64.5.0/24', member))).toBe(`E_BAD_REQUEST: ${member} is no member: a run has at most 254`)
    expect(await said(() => memberMac(lowestVni, member))).toBe(`E_BAD_REQUEST: ${member} is no member: a run has at most 254`)
  })

  test('move on while any member of another sandbox is in the block, past the end of the pool as well', () => {
    expect(allotBlock('10.0.0.0/23', 0, new Set(['10.0.0.1']))).toBe('10.0.1.0/24')
    expect(allotBlock('10.0.0.0/23', 1, new Set(['10.0.1.254', '192.168.0.1']))).toBe('10.0.0.0/24')
  })

  test('stay in the pool for every job id', () => {
    for (const id of [1, 2 ** 16 - 1, 2 ** 31, 2 ** 32 - 1]) expect(allotBlock('100.64.0.0/10', id, new Set())).toMatch(/^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.0\/24$/)
  })

  test('used up are an error to retry', async () => {
    expect(await said(() => allotBlock('10.0.0.0/23', 9, new Set(['10.0.0.1', '10.0.1.65'])))).toBe('E_BUSY: network.pool 10.0.0.0/23 is used up on this node')
    expect(errorKinds.E_BUSY.retryable).toBe(true)
  })

  test.each(['10.0.0.0', '10.0.0.0/', '10.0.0.0/7', '10.0.0.0/24', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/8.5', '10.0.0.0/8/9', '10.0.1.0/23', '10.0.0/8', '/8', ''])('%j is no pool', async (pool) => {
    expect(await said(() => allotBlock(pool, 1, new Set()))).toContain('E_BAD_CONFIG: network.pool')
  })
})

describe('the network of a run', () => {
  const none = { vnis: new Set<number>(), addresses: new Set<string>() }

  test('has block and VNI by the job id, each moved on by itself', () => {
    expect(allotNetwork('100.64.0.0/10', 5, none)).toEqual({ vni: lowestVni + 5, prefix: '100.64.5.0/24' })
    expect(allotNetwork('100.64.0.0/10', 5, { ...none, vnis: new Set([lowestVni + 5, lowestVni + 6]) })).toEqual({ vni: lowestVni + 7, prefix: '100.64.5.0/24' })
    expect(allotNetwork('100.64.0.0/10', 5, { ...none, addresses: new Set(['100.64.5.3']) })).toEqual({ vni: lowestVni + 5, prefix: '100.64.6.0/24' })
  })

  test('has a VNI of 24 bits, the highest set, for every job id', () => {
    for (const id of [0, 1, 2 ** 23 - 1, 2 ** 23, 2 ** 32 - 1]) {
      const { vni } = allotNetwork('100.64.0.0/10', id, none)
      expect(vni).toBeGreaterThanOrEqual(2 ** 23)
      expect(vni).toBeLessThan(2 ** 24)
    }
    expect(allotNetwork('100.64.0.0/10', 2 ** 23 - 1, { ...none, vnis: new Set([2 ** 24 - 1]) }).vni).toBe(2 ** 23)
  })

  test('gives every member a MAC of its own, administered locally', () => {
    expect(memberMac(0x800005, 0)).toBe('02:53:80:00:05:00')
    expect(memberMac(0xabcdef, 253)).toBe('02:53:ab:cd:ef:fd')
  })
})

describe('an open file', () => {
  const rules = { sharedPaths: ['/scratch'], systemPaths: ['/usr', '/etc'] }

  test.each([
    ['/tmp/x', 'ext4', true, 'private'], ['/dev/shm/x', 'tmpfs', true, 'private'], ['/tmpx', 'ext4', true, 'local'],
    ['/home/a', 'nfs4', true, 'shared'], ['/home/a', 'lustre', false, 'shared'], ['/scratch/x', 'ext4', true, 'shared'], ['/scratchy/x', 'ext4', true, 'local'],
    ['/proc/1/maps', 'proc', false, 'kernel'], ['/dev/null', 'ext4', true, 'kernel'], ['/x', 'mqueue', true, 'kernel'],
    ['/usr/lib/libc.so.6', 'ext4', false, 'system'], ['/usr/lib/libc.so.6', 'ext4', true, 'local'], ['/usrlocal/x', 'ext4', false, 'local'], ['/', 'ext4', false, 'system'],
    ['/home/a', undefined, false, 'local'],
  ])('%s on %s, writable %s, is %s', (path, type, writable, expected) => {
    expect(placeOf(path, type, writable, rules)).toBe(expected)
  })
})

describe('a fault to inject', () => {
  test.each([undefined, '', 'sealed', 'sealed:', ':/x', 'nowhere:/x'])('%j is none', (text) => {
    expect(parseFault(text)).toBeUndefined()
  })

  test('has a known point and a file', () => {
    expect(parseFault('sealed:/run/once')).toEqual({ point: 'sealed', onceFile: '/run/once' })
  })
})

describe('a thrown value', () => {
  test('with a code of the catalogue stays what it is', () => {
    const error = new StintError('E_BUSY', 'x')
    expect(asStintError(error)).toBe(error)
    expect(error.hint).toBe(errorKinds.E_BUSY.hint)
  })

  test.each([new Error('m'), 'm', { message: 'm' }, Object.assign(new Error('m'), { code: 'ENOENT' }), Object.assign(new Error('m'), { code: 'toString' }), Object.assign(new Error('m'), { code: 5 })])(
    'that is none of ours becomes E_INTERNAL with its cause', (thrown) => {
      const error = asStintError(thrown)
      expect([error.code, error.message, error.cause]).toEqual(['E_INTERNAL', 'm', thrown])
    },
  )

  test.each([undefined, null, {}, { code: 'constructor' }])('%j is no coded error', (thrown) => {
    expect(isStintError(thrown)).toBe(false)
  })

  test('of Node.js has a system code', () => {
    expect([systemCode(Object.assign(new Error(), { code: 'ENOENT' })), systemCode('ENOENT'), systemCode(null)]).toEqual(['ENOENT', undefined, undefined])
  })
})
