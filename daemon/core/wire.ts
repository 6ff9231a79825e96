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

export function encodeLine(verb: string, words: Record<string, string | number | readonly string[] | undefined> = {}): string {
  const parts = [verb]
  for (const [key, value] of Object.entries(words)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) parts.push(`${key}=${encodeValue(one)}`)
  }
  return `${parts.join(' ')}\n`
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
