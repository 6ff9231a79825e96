import { maxLineBytes } from './wire.ts'

const newline = 0x0a
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** Cuts a stream of bytes into lines of the sandbox protocol, however it comes in pieces. It holds one line at most, and copies a byte once. */
export class LineReader {
  readonly #line = new Uint8Array(maxLineBytes)
  #length = 0
  #isOverlong = false

  /** A line was too long: nothing that came after it is told. */
  get isOverlong(): boolean {
    return this.#isOverlong
  }

  #add(bytes: Uint8Array): boolean {
    // A line's newline counts.
    this.#isOverlong ||= this.#length + bytes.length >= maxLineBytes
    if (this.#isOverlong) return false
    this.#line.set(bytes, this.#length)
    this.#length += bytes.length
    return true
  }

  /** The lines that end in this piece, without their newlines, each with where the next begins in the piece. What is no UTF-8 stands as U+FFFD. */
  * lines(piece: Uint8Array): Generator<{ readonly text: string; readonly next: number }, void, void> {
    let from = 0
    for (let at = piece.indexOf(newline); at >= 0; at = piece.indexOf(newline, from)) {
      if (!this.#add(piece.subarray(from, at))) return
      from = at + 1
      const text = decoder.decode(this.#line.subarray(0, this.#length))
      this.#length = 0
      yield { text, next: from }
    }
    this.#add(piece.subarray(from))
  }
}
