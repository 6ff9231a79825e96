import { StintError } from './errors.ts'
import { shown } from './text.ts'

/** Lines of the sandbox protocol (docs/reference/sandbox-protocol.md): `verb key=value ...`, values percent-encoded. */

export interface Message {
  readonly verb: string
  /** Every value of every key, in order; most keys have one. */
  readonly words: ReadonlyMap<string, readonly string[]>
}

/** Longest line either side sends or accepts, in bytes. */
export const maxLineBytes = 4096

/** `%`, blanks and control bytes as %XX; everything else as it stands. */
function encodeValue(value: string): string {
  // eslint-disable-next-line no-control-regex -- control bytes are what must not stand on a line
  return value.replace(/[\u0000-\u0020%\u007f]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** Words for people: shown on a terminal as they arrive, so they are escaped; what does not fit on a line may be cut off them. */
const proseKeys: ReadonlySet<string> = new Set(['text', 'message'])

/** Bytes in UTF-8; core has no Buffer. */
function byteLength(text: string): number {
  return new TextEncoder().encode(text).length
}

/** As much of an encoded value as fits, neither in the middle of a character nor of %XX. */
function cut(encoded: string, bytes: number): string {
  let fits = ''
  let left = bytes - byteLength('…')
  for (const [unit] of encoded.matchAll(/%[0-9a-f]{2}|./gu)) {
    left -= byteLength(unit)
    if (left < 0) return `${fits}…`
    fits += unit
  }
  return encoded
}

/**
 * A line, its newline included. Prose is cut where the line would be too long: the reader of an overlong line hangs up.
 * @throws StintError E_INTERNAL when it is too long without prose
 */
export function encodeLine(verb: string, words: Record<string, string | number | readonly string[] | undefined> = {}): string {
  const parts = [verb]
  const prose: (readonly [string, string])[] = []
  for (const [key, value] of Object.entries(words)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) {
      if (proseKeys.has(key)) prose.push([key, encodeValue(shown(one))])
      else parts.push(`${key}=${encodeValue(one)}`)
    }
  }
  for (const [key, value] of prose) {
    const room = maxLineBytes - byteLength(`${parts.join(' ')} ${key}=\n`)
    parts.push(`${key}=${byteLength(value) <= room ? value : cut(value, room)}`)
  }
  const line = `${parts.join(' ')}\n`
  if (byteLength(line) > maxLineBytes) throw new StintError('E_INTERNAL', `the line "${verb}" is longer than ${maxLineBytes} bytes`)
  return line
}

/** Parses one line without its newline; undefined when it is empty or no verb stands first. */
export function decodeLine(line: string): Message | undefined {
  const [verb, ...rest] = line.split(' ').filter((word) => word !== '')
  if (verb === undefined || !/^[a-z-]+$/.test(verb)) return undefined
  const words = new Map<string, string[]>()
  for (const word of rest) {
    const at = word.indexOf('=')
    if (at < 1) continue
    const value = word.slice(at + 1).replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    const key = word.slice(0, at)
    words.set(key, [...(words.get(key) ?? []), value])
  }
  return { verb, words }
}

/** The first value of a key, or undefined. */
export function word(message: Message, key: string): string | undefined {
  return message.words.get(key)?.[0]
}

/** The first value of a key as a whole number from 0 up, or undefined. */
export function numberWord(message: Message, key: string): number | undefined {
  const value = word(message, key)
  return value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : undefined
}
