import { describe, expect, test } from '@jest/globals'
import { matchesGlob, parseGlob } from '../../daemon/core/glob.ts'
import { parseOptions } from '../../daemon/core/options.ts'
import { said } from '../support/errors.ts'

/** Patterns that users write. */

/** The same by JavaScript's expressions, which are right and may take for ever. */
function asExpression(pattern: string): RegExp {
  const text = pattern.replace(/\*\*+|[*?]|[^*?]+/g, (part) => (part.startsWith('**') ? '.*' : { '*': '[^/]*', '?': '[^/]' }[part] ?? part.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')))
  return new RegExp(`^${text}$`, 's')
}

/** Numbers that look random and are the same in every run. */
function* numbers(): Generator<number, never> {
  for (let state = 12345; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state >>> 8
  }
}

describe('a pattern', () => {
  test('means what an expression means, for any mixture of stars, question marks, slashes and letters', () => {
    const random = numbers()
    const word = (alphabet: string, most: number): string => Array.from({ length: random.next().value % (most + 1) }, () => alphabet.charAt(random.next().value % alphabet.length)).join('')
    const wrong = Array.from({ length: 20_000 }, () => ({ pattern: word('**?ab/.', 8), text: word('aab/.\n', 10) }))
      .filter(({ pattern, text }) => matchesGlob(parseGlob(pattern), text) !== asExpression(pattern).test(text))
    expect(wrong).toEqual([])
  })

  test.each([
    ['many double stars', '/**a'.repeat(120), 4000], ['single stars', '*a'.repeat(250), 4000], ['question marks and stars', '?*'.repeat(250), 4000],
    ['nothing but stars before a letter', '*'.repeat(500) + 'x', 4000], ['double stars between letters', 'a**'.repeat(160), 4000],
  ])('of %s is matched in a moment, although it does not match', (_, pattern, length) => {
    const started = performance.now()
    const glob = parseGlob(pattern)
    expect(matchesGlob(glob, `${'/a'.repeat(length / 2)}b`)).toBe(false)
    expect(performance.now() - started).toBeLessThan(500)
  })
})

test('options are as long as the plugin takes them, and no longer', async () => {
  expect(parseOptions(`norollback=${'x'.repeat(500)}`).norollback).toHaveLength(500)
  expect(await said(() => parseOptions(`norollback=${'x'.repeat(501)}`))).toMatch(/too long/)
})
