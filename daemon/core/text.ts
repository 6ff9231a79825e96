/**
 * Text that others made (names of processes, files, jobs and users, messages of programs) on its way to a terminal, a log or Slurm's
 * records. It is escaped where it leaves: the command line (cli/verb.ts), lines to a monitor and to launchers (core/wire.ts), notes on
 * jobs and nodes (slurm/scontrol.ts), the log (linux/log.ts). Inside, names are what they are.
 */

/**
 * What changes how other characters are shown, or is not shown itself: control characters with line ends and ESC, format characters
 * (directional marks, zero width), line and paragraph separators, unpaired surrogates, private and unassigned code points, and those
 * that a font leaves out by default (fillers, variation selectors, tags).
 */
const unfit = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/gu
const unfitButNewline = new RegExp(`(?!\\n)${unfit.source}`, 'gu')
/** Of those what a JSON text may hold as it is. */
const unfitInJson = /[\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}\u007f-\u009f]/gu

const short: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0')
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return short[character] ?? (code < 0x100 ? `\\x${hex(code, 2)}` : code < 0x10000 ? `\\u${hex(code, 4)}` : `\\u{${hex(code, 1)}}`)
}

/** For one line of a person's: `\x1b[2J` in place of a cleared screen, `\n` in place of a second line. */
export function shown(text: string): string {
  return text.replace(unfit, escape)
}

/** The same for a text of several lines of our own making. */
export function shownLines(text: string): string {
  return text.replace(unfitButNewline, escape)
}

/** The same for every string in a value, as it comes out of JSON. */
export function shownDeep<T>(value: T): T {
  if (typeof value === 'string') return shown(value) as T
  if (Array.isArray(value)) return value.map((one: unknown) => shownDeep(one)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [shown(key), shownDeep<unknown>(one)])) as T
}

/** A text in JSON that means the same, with nothing in it that a terminal obeys: JSON itself leaves C1 and directional marks as they are. */
export function shownJson(json: string): string {
  return json.replace(unfitInJson, (character) => Array.from({ length: character.length }, (_, at) => `\\u${hex(character.charCodeAt(at), 4)}`).join(''))
}
