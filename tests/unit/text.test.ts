import { describe, expect, test } from '@jest/globals'
import { shown, shownDeep, shownJson, shownLines } from '../../daemon/core/text.ts'
import { decodeLine, encodeLine, word } from '../../daemon/core/wire.ts'

const unfit = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/u

/** A stand-in for any text: every 16-bit unit is as likely as any other, those that do harm are more so. */
function hostile(seed: number): string {
  let state = seed
  const next = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const harm = ['\u001b[2J', '\u009b31m', '\n', '\r', '\u202e', '\u2066', '\u2069', '\u200b', '\u200f', '\u2028', '\ud83d', '\udc00', '\ufeff', '\u0000', '\u007f', '\u0085', '\u00ad', '\u061c', '\u{e0041}', '\u3164', '\ue000', '\uffff']
  return Array.from({ length: 60 }, () => (next(3) === 0 ? harm[next(harm.length)] ?? '' : String.fromCharCode(next(0x10000)))).join('')
}

describe('text that others made', () => {
  test.each([
    ['a name', 'a name'], ['naïve 名前 \u{1f600}', 'naïve 名前 \u{1f600}'],
    ['\u001b[2J\u001b[H', '\\x1b[2J\\x1b[H'], ['\u009b31m', '\\x9b31m'], ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['evil\u202egnp.exe', 'evil\\u202egnp.exe'], ['\u2066x\u2069', '\\u2066x\\u2069'], ['zero\u200bwidth', 'zero\\u200bwidth'],
    ['half \ud83d', 'half \\ud83d'], ['tag \u{e0041}', 'tag \\u{e0041}'], ['', ''],
  ])('%j is shown as %j', (text, as) => { expect(shown(text)).toBe(as) })

  test('whatever it is, nothing of it is obeyed by a terminal, and JSON of it means the same', () => {
    for (let seed = 1; seed <= 3000; seed++) {
      const text = hostile(seed)
      expect(shown(text)).not.toMatch(unfit)
      expect(shownLines(text).replaceAll('\n', '')).not.toMatch(unfit)
      const json = shownJson(JSON.stringify({ [text]: [text] }, undefined, 2))
      expect(json.replaceAll('\n', '')).not.toMatch(unfit)
      expect(JSON.parse(json)).toEqual({ [text]: [text] })
    }
  })

  test('is escaped wherever it stands in a value', () => {
    expect(shownDeep({ a: ['\u001b', { 'k\n': '\u202e', n: 1, nothing: null, yes: true }] })).toEqual({ a: ['\\x1b', { 'k\\n': '\\u202e', n: 1, nothing: null, yes: true }] })
  })

  test('is escaped on a line for people, and faithful in all other words', () => {
    const line = encodeLine('say', { text: 'python\u001b[2J\nroot: ok', cgroup: '/a\u001bb' }).trimEnd()
    const message = decodeLine(line)
    expect(message === undefined ? undefined : [word(message, 'text'), word(message, 'cgroup')]).toEqual(['python\\x1b[2J\\nroot: ok', '/a\u001bb'])
  })
})
