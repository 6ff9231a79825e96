import { describe, expect, test } from '@jest/globals'
import { decodeLine, encodeLine, maxLineBytes, numberWord, word } from '../../daemon/core/wire.ts'
import { said } from '../support/errors.ts'

/** Lines between plugin and daemon: docs/reference/sandbox-protocol.md. */

function roundTrip(value: string): string | undefined {
  const line = encodeLine('open', { options: value })
  expect(line).toMatch(/^open options=\S*\n$/)
  const message = decodeLine(line.slice(0, -1))
  return message === undefined ? undefined : word(message, 'options')
}

describe('a line', () => {
  test.each(['', 'net=host', 'a b', '100%', '%20', 'a\nb\r\t\0', '\u007f', 'ü/日本/🙂', "it's \"quoted\"", '='])('keeps %j as it is', (value) => {
    expect(roundTrip(value)).toBe(value)
  })

  test('leaves out what is undefined and repeats what is many', () => {
    const line = encodeLine('start', { net: 'private', doorbell: undefined, env: ['A=1', 'B=2 3'], pid: 7 })
    expect(line).toBe('start net=private env=A=1 env=B=2%203 pid=7\n')
    expect(decodeLine(line.trimEnd())?.words.get('env')).toEqual(['A=1', 'B=2 3'])
  })

  test.each(['', ' ', 'Open x=1', '=x', '1 x=2', '\u0000', '{"verb":"open"}', 'open\u0000 x=1', 'ö'])('%j is none', (text) => {
    expect(decodeLine(text)).toBeUndefined()
  })

  test('cut off in a word has the words before it', () => {
    const message = decodeLine('open job=5 pid=47 opti')
    expect([...(message?.words.keys() ?? [])]).toEqual(['job', 'pid'])
  })

  test('with broken percent signs keeps them', () => {
    const message = decodeLine('open a=% b=%2 c=%zz d=%2g e==x =y')
    expect(['a', 'b', 'c', 'd', 'e'].map((key) => message?.words.get(key)?.[0])).toEqual(['%', '%2', '%zz', '%2g', '=x'])
    expect(message?.words.size).toBe(5)
  })

  test.each([['5', 5], ['0', 0], ['-1', undefined], ['1.5', undefined], ['0x1', undefined], ['', undefined], ['1e3', undefined], ['9'.repeat(16), undefined]])('number=%j is %j', (text, expected) => {
    const message = decodeLine(`signal number=${text}`)
    expect(message === undefined ? 'no message' : numberWord(message, 'number')).toBe(expected)
  })

  test.each(['x'.repeat(9000), ' '.repeat(5000), '日'.repeat(3000), '🙂 '.repeat(2000)])('with too long a text for people is cut to what the reader takes', (text) => {
    const line = encodeLine('refuse', { message: text, code: 'E_SLURM' })
    expect(Buffer.byteLength(line)).toBeLessThanOrEqual(maxLineBytes)
    expect(Buffer.byteLength(line)).toBeGreaterThan(maxLineBytes - 8)
    const message = decodeLine(line.trimEnd())
    const kept = (message?.words.get('message')?.[0] ?? '').replace(/…$/, '')
    expect(text.startsWith(kept)).toBe(true)
    expect(message?.words.get('code')).toEqual(['E_SLURM'])
  })

  test('that fits to the byte is not cut', () => {
    const text = 'x'.repeat(maxLineBytes - 'say text=\n'.length)
    expect(encodeLine('say', { text })).toBe(`say text=${text}\n`)
  })

  test('that would be too long without prose is an error here, not at the reader', async () => {
    expect(await said(() => encodeLine('start', { hosts: '/x'.repeat(3000) }))).toBe(`E_INTERNAL: the line "start" is longer than ${maxLineBytes} bytes`)
  })
})
