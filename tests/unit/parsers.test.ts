import { describe, expect, test } from '@jest/globals'
import { parseCpuList, readRecord } from '../../daemon/core/ledger.ts'
import { LineReader } from '../../daemon/core/line-reader.ts'
import { optionsLike } from '../../daemon/core/sbatch-options.ts'
import { maxLineBytes } from '../../daemon/core/wire.ts'
import { parseUnixListeners } from '../../daemon/linux/unix-listeners.ts'
import { LetterReader } from '../../daemon/member/letter-reader.ts'
import { parseJobJson } from '../../daemon/slurm/job-json.ts'
import { parseJob } from '../../daemon/slurm/scontrol.ts'
import { parseJobStates, parseNodeJobs } from '../../daemon/slurm/squeue.ts'
import { withoutSizes } from '../../plugins/engines/criu/images.ts'
import { said } from '../support/errors.ts'

/** What the fuzzers (tests/fuzz) have found, each with the smallest input that did it. */

/** Seconds of processor time: what the machine does besides does not count. */
function secondsOf(run: () => void): number {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e6
}

describe('a number that is none', () => {
  const line = (fields: string): string => `JobId=5 JobName=x UserId=alice(1001) GroupId=alice(1001) JobState=RUNNING ${fields} Command=/x WorkDir=/y`

  test.each(['Restarts=x', 'Restarts=-1', 'Restarts=1.5', 'Restarts=4294967296'])('of restarts (%s) is refused, not taken', async (fields) => {
    expect(await said(() => parseJob(line(fields), 5))).toMatch(/^E_SLURM: scontrol tells user or restarts of job 5/)
  })

  test('of a user is refused, not taken', async () => {
    expect(await said(() => parseJob(line('Restarts=0').replace('1001', '4294967296'), 5))).toMatch(/^E_SLURM/)
    for (const uid of [-1, 1.5, 2 ** 32]) expect(await said(() => parseJobJson(JSON.stringify({ jobs: [{ job_id: 5, user_id: uid, requeue: true, restart_cnt: 0 }] }), 5))).toMatch(/^E_SLURM/)
  })

  test('of a job is passed over', () => {
    expect(parseNodeJobs('4294967296 alice\n17 bob\n')).toEqual([{ jobId: 17, user: 'bob' }])
    expect([...parseJobStates('4294967296|RUNNING\n17|PENDING\n')]).toEqual([[17, 'PENDING']])
  })

  test('of a CPU is left out', () => {
    expect(parseCpuList('0-1,9007199254740992,0-999999999999,5-3,8')).toEqual([0, 1, 8])
  })
})

describe('time grows with the length of the text, whatever is in it', () => {
  test.each<[string, () => void]>([
    ['lines of squeue', () => { parseNodeJobs('\n'.repeat(200_000)) }],
    ['lines of scontrol', () => { optionsLike('\n'.repeat(200_000)) }],
    ['blanks of ss', () => { parseUnixListeners(`u_str LISTEN 1 5 ${' '.repeat(100_000)}x`) }],
    ['threads', () => { readRecord(`${Array.from({ length: 100_000 }, (_, at) => `thread 1 ${at} 01`).join('\n')}\ndone\n`, [0]) }],
    ['pieces of a letter', () => {
      const reader = new LetterReader()
      reader.take(Buffer.from('launch host=n2 once=1 bytes=300000\n'))
      const piece = Buffer.from('x')
      for (let at = 0; at < 299_999; at++) reader.take(piece)
    }],
  ])('%s', (_, read) => {
    expect(secondsOf(read)).toBeLessThan(2)
  })
})

describe('an image that is none', () => {
  const head = Buffer.from([0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56])
  const withMessage = (message: Buffer): Buffer => Buffer.concat([head, Buffer.from(Uint32Array.of(message.length).buffer), message])

  test.each([['a field of number 0', Buffer.from([1, 16])], ['100,000 groups in one another', Buffer.alloc(100_000, 0x0b)], ['a field that is cut off', Buffer.from([0x1a, 0x7f])]])('%s is refused with its place', (_, message) => {
    expect(() => withoutSizes(withMessage(message), new Set(['/x']))).toThrow('files.img has no message of CRIU at byte 8')
  })
})

describe('a letter', () => {
  test('is the same in whatever pieces it comes; what follows is none of it', () => {
    const bytes = Buffer.from('output id=1 bytes=4\nbodyrest')
    const reader = new LetterReader()
    const letters = [...bytes].map((byte) => reader.take(Buffer.from([byte]))).filter((letter) => letter !== undefined)
    expect(letters[0]?.body.toString()).toBe('body')
    expect(new LetterReader().take(bytes)?.body.toString()).toBe('body')
  })

  test.each(['x'.repeat(maxLineBytes), `${'x'.repeat(maxLineBytes)}\n`, '\n', '1 x=2\n', 'launch bytes=1048577\n'])('is none of %j', async (text) => {
    expect(await said(() => new LetterReader().take(Buffer.from(text)))).toMatch(/^E_BAD_REQUEST/)
  })
})

test('lines before one that is too long are read, none after it', () => {
  const reader = new LineReader()
  const lines = [...reader.lines(Buffer.from(`held\n${'x'.repeat(maxLineBytes)}\nrestored\n`))]
  expect(lines.map(({ text }) => text)).toEqual(['held'])
  expect([reader.isOverlong, [...reader.lines(Buffer.from('\nrestored\n'))]]).toEqual([true, []])
})
