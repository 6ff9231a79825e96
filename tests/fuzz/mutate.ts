import fc from 'fast-check'

/**
 * Inputs for parsers: recorded ones, changed a few times where their structure is. A change is a few numbers, so that fast-check can
 * shrink what fails to the fewest changes.
 */

const longestWord = 40
const betweenWords = /[\s=,:|;"'{}[\]()%]/

/** What breaks parsers. */
const oddTexts = [
  '', ' ', '\t', '\n', '\r\n', '\0', '\x7f', '\x1b[31m', '%', '%0a', '%00', '%zz', '=', '==', ',', ':', '|', '"', '\\', '/', '../', '-', '--', '*', '**', '(null)', 'N/A', 'Unknown', 'None', 'UNLIMITED',
  '__proto__', 'constructor', 'toString', 'NaN', 'Infinity', 'null', 'true', '\u2028', '\ufeff', '\ud800', 'é', '𝒳', '\u202e',
]
const oddNumbers = ['0', '-0', '-1', '1', '00', '1.5', '1e3', '0x10', '127', '128', '255', '256', '65535', '65536', '2147483647', '2147483648', '4294967295', '4294967296', '9007199254740992', '18446744073709551615', '1'.repeat(30)]
const oddValues: readonly unknown[] = [
  null, true, false, 0, -1, 1.5, 2 ** 31, 2 ** 32, 2 ** 53, 1e308, '', 'x', '\0', '\n', '../..', '__proto__', [], {}, [null], [[]], { set: true }, { set: true, infinite: false, number: 0 }, { number: 1 }, 'x'.repeat(5000), Array.from({ length: 300 }, () => 0),
]

/** How, where, how much, with what: indices into whatever there is. */
type Change = readonly [how: number, where: number, much: number, what: number]

/** A change is drawn as one number, which costs a tenth of drawing four: the parts are bits of what a mixing function makes of it (the finaliser of MurmurHash3). */
function changeOf(seed: number): Change {
  const mix = (value: number): number => {
    let mixed = value
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return (mixed ^ (mixed >>> 16)) >>> 0
  }
  const [a, b] = [mix(seed), mix(seed ^ 0x9e3779b9)]
  return [a & 1023, a >>> 16, b & 65_535, b >>> 16]
}

/** Shrunk by leaving changes out. */
const changes = (most: number): fc.Arbitrary<Change[]> => fc.array(fc.noShrink(fc.noBias(fc.nat(2 ** 31 - 1).map(changeOf))), { maxLength: most, size: 'max' })

function pick<T>(from: readonly T[], index: number): T {
  const one = from[index % from.length]
  if (one === undefined && from.length === 0) throw new RangeError('nothing to pick from')
  return one as T
}

/** The word at this place, wherever in it that is, as [from, to]; looked for near it only, since a text may be long. */
function wordOf(text: string, index: number): readonly [number, number] {
  let from = index % (text.length + 1)
  let to = from
  for (const least = from - longestWord; from > 0 && from > least && !betweenWords.test(text[from - 1] ?? ' ');) from--
  for (const most = to + longestWord; to < text.length && to < most && !betweenWords.test(text[to] ?? ' ');) to++
  return [from, to]
}

type TextChange = (text: string, corpus: readonly string[], change: Change) => string
const replaceWord = (text: string, where: number, by: string): string => {
  const [from, to] = wordOf(text, where)
  return text.slice(0, from) + by + text.slice(to)
}
const textChanges: readonly TextChange[] = [
  (text, _, [, where, much]) => text.slice(0, where % (text.length + 1)) + text.slice((where % (text.length + 1)) + 1 + (much % 40)),
  (text, _, [, where]) => text.slice(0, where % (text.length + 1)),
  (text, _, [, where, , what]) => text.slice(0, where % (text.length + 1)) + pick(oddTexts, what) + text.slice(where % (text.length + 1)),
  (text, _, [, where, , what]) => replaceWord(text, where, pick(oddTexts, what)),
  (text, _, [, where, , what]) => replaceWord(text, where, pick(oddNumbers, what)),
  (text, _, [, where, , what]) => replaceWord(text, where, String.fromCharCode(what)),
  (text, _, [, where, much]) => {
    const [from, to] = wordOf(text, where)
    return text.slice(0, to) + text.slice(from, to + 1).repeat(much % 300) + text.slice(to)
  },
  (text, _, [, where, , what]) => replaceWord(text, where, text.slice(...wordOf(text, what))),
  (text, _, [, where, much, what]) => {
    const lines = text.split('\n')
    return lines.toSpliced(where % lines.length, much % 3, pick(lines, what), pick(lines, what)).join('\n')
  },
  (text, corpus, [, where, , what]) => text.slice(0, where % (text.length + 1)) + pick(corpus, what).slice(where % (text.length + 1)),
  (text, _, [, where, much, what]) => text.slice(0, where % (text.length + 1)) + pick([' ', '\n', '(', '1', 'a', '%', '**', '[', '\\', '='], what).repeat(much % 3000) + text.slice(where % (text.length + 1)),
]

/** Longer inputs than a parser would ever see tell nothing. */
const longest = 20_000

function change(text: string, corpus: readonly string[], made: readonly Change[]): string {
  return made.reduce((before, one) => pick(textChanges, one[0])(before, corpus, one).slice(0, longest), text)
}

/** Recorded texts, changed up to six times. */
export function texts(corpus: readonly string[]): fc.Arbitrary<string> {
  return fc.tuple(fc.nat(corpus.length - 1), changes(6)).map(([at, made]) => change(pick(corpus, at), corpus, made))
}

/** Changes one value somewhere in a JSON document. Its containers are copied on the way. */
function changeValue(value: unknown, [how, where, much, what]: Change): unknown {
  if (typeof value !== 'object' || value === null) return how % 4 === 0 && typeof value === 'string' ? change(value, [value], [[what, where, much, what]]) : pick(oddValues, what)
  const keys = Object.keys(value)
  if (keys.length === 0 || how % 16 === 0) return pick(oddValues, what)
  const key = pick(keys, where)
  // Deeper three times of four; `where` is used up on the way.
  if (how % 4 !== 0) {
    const inner = changeValue((value as Record<string, unknown>)[key], [Math.floor(how / 4) + 1, Math.floor(where / keys.length), much, what])
    return Array.isArray(value) ? value.toSpliced(Number(key), 1, inner) : { ...value, [key]: inner }
  }
  if (Array.isArray(value)) return much % 2 === 0 ? value.toSpliced(Number(key), 1) : value.toSpliced(Number(key), 0, ...Array.from({ length: much % 100 }, (): unknown => value[Number(key)]))
  const rest = Object.fromEntries(Object.entries(value).filter(([name]) => name !== key))
  return much % 2 === 0 ? rest : Object.fromEntries([...Object.entries(rest), [pick(oddTexts, what), (value as Record<string, unknown>)[key]]])
}

/** Recorded JSON documents with up to four values changed, one of eight with up to two changes of their text as well. */
export function documents(corpus: readonly string[]): fc.Arbitrary<string> {
  const parsed = corpus.map((text) => JSON.parse(text) as unknown)
  return fc.tuple(fc.nat(parsed.length - 1), changes(4), fc.nat(7), changes(2)).map(([at, made, also, inText]) => {
    const text = JSON.stringify(made.reduce(changeValue, pick(parsed, at)))
    return also === 0 ? change(text, corpus, inText) : text
  })
}

const oddBytes = [0, 1, 2, 7, 8, 10, 0x0a, 0x12, 0x1a, 0x7f, 0x80, 0xff]

function changeBytes(bytes: Buffer, [how, where, much, what]: Change): Buffer {
  const at = where % (bytes.length + 1)
  const put = (...more: readonly number[]): Buffer => Buffer.concat([bytes.subarray(0, at), Buffer.from(more), bytes.subarray(at)])
  switch (how % 8) {
    case 0: return bytes.subarray(0, at)
    case 1: return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + (much % 16))])
    case 2: return put(pick(oddBytes, what))
    case 3: return put(...Array.from({ length: much % 12 }, () => 0xff))
    case 4: return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + (much % 200)), bytes.subarray(at)])
    case 5: return put(...Array.from({ length: much % 3000 }, () => pick([0x0b, 0x0c, 0x00, 0x80], what))) // Groups of protocol buffers, one in another.
    default: {
      const changed = Buffer.from(bytes)
      const size = how % 8 === 6 ? 1 : 4
      if (at + size <= changed.length) changed.writeUIntLE(size === 1 ? what & 0xff : (much * 65_536 + what) >>> (how % 32), at, size)
      return changed
    }
  }
}

/** Recorded binary files, changed up to five times. */
export function binaries(corpus: readonly Buffer[]): fc.Arbitrary<Buffer> {
  return fc.tuple(fc.nat(corpus.length - 1), changes(5)).map(([at, made]) => made.reduce(changeBytes, pick(corpus, at)))
}

/** Where a stream is cut into pieces: sizes, of which the last is used until the end. */
export const cuts = fc.array(fc.integer({ min: 1, max: 4200 }), { minLength: 1, maxLength: 6 })

export function cutInto(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  for (let [at, turn] = [0, 0]; at < bytes.length; turn++) {
    const size = sizes[Math.min(turn, sizes.length - 1)] ?? 1
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}
