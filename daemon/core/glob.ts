/**
 * Patterns that users write, matched in time proportional to the pattern's length times the text's: no pattern is slow, whatever it
 * holds. Expressions of JavaScript backtrack, and `**` many times over takes them for ever.
 */

type Part =
  | { readonly kind: 'text'; readonly character: string }
  | { readonly kind: 'one' }
  /** Any number of characters; `slashes`: of those, too. */
  | { readonly kind: 'many'; readonly slashes: boolean }

/** A pattern that was read once, for many texts. */
export type Glob = readonly Part[]

/** `*` and `?` stop at slashes, `**` does not; nothing else is special, a leading dot neither. Stars in a row are as wide as the widest. */
export function parseGlob(pattern: string): Glob {
  return (pattern.match(/\*+|[^*]/gs) ?? []).map((part): Part => {
    if (part.startsWith('*')) return { kind: 'many', slashes: part.length > 1 }
    return part === '?' ? { kind: 'one' } : { kind: 'text', character: part }
  })
}

/** Places in the pattern that can be next without another character: those behind stars, which may stand for nothing. */
function closure(glob: Glob, at: Uint8Array): void {
  for (let place = 0; place < glob.length; place++) if (at[place] === 1 && glob[place]?.kind === 'many') at[place + 1] = 1
}

/** Whether the whole text is what the pattern says. Follows all places of the pattern at once, character by character. */
export function matchesGlob(glob: Glob, text: string): boolean {
  let [now, next] = [new Uint8Array(glob.length + 1), new Uint8Array(glob.length + 1)]
  now[0] = 1
  closure(glob, now)
  for (let position = 0; position < text.length; position++) {
    const character = text.charAt(position)
    next.fill(0)
    let isAlive = false
    for (let place = 0; place < glob.length; place++) {
      const part = glob[place]
      if (now[place] !== 1 || part === undefined) continue
      if (part.kind === 'many' ? !part.slashes && character === '/' : part.kind === 'one' ? character === '/' : part.character !== character) continue
      next[part.kind === 'many' ? place : place + 1] = 1
      isAlive = true
    }
    if (!isAlive) return false
    closure(glob, next)
    ;[now, next] = [next, now]
  }
  return now[glob.length] === 1
}
