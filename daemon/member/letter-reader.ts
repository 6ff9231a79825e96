import { StintError } from '../core/errors.ts'
import { LineReader } from '../core/line-reader.ts'
import { decodeLine, numberWord, type Message } from '../core/wire.ts'

/** A line with the bytes that follow it. */
export interface Letter {
  readonly message: Message
  readonly body: Buffer
}

/** Of a launch: the environment is the longest part of it, bytes. */
const maxBodyBytes = 2 ** 20

/**
 * Puts a letter together from the pieces it comes in: whoever sends it byte by byte costs no more than one who sends it whole. It
 * takes twice the memory of what has come at most, whatever length the line claims.
 */
export class LetterReader {
  readonly #lines = new LineReader()
  #message: Message | undefined
  #body = Buffer.alloc(0)
  #length = 0
  #wanted = 0

  /**
   * @returns the letter once it is whole; what comes after it is none of it
   * @throws StintError E_BAD_REQUEST when it is none, or too long
   */
  take(piece: Uint8Array): Letter | undefined {
    let rest = piece
    if (this.#message === undefined) {
      const { value: line } = this.#lines.lines(piece).next()
      if (line === undefined && !this.#lines.isOverlong) return undefined
      this.#message = line === undefined ? undefined : decodeLine(line.text)
      if (line === undefined || this.#message === undefined) throw new StintError('E_BAD_REQUEST', 'what came is no letter')
      this.#wanted = numberWord(this.#message, 'bytes') ?? 0
      if (this.#wanted > maxBodyBytes) throw new StintError('E_BAD_REQUEST', `a letter of ${this.#wanted} bytes is too long`)
      rest = piece.subarray(line.next)
    }
    this.#add(rest.subarray(0, this.#wanted - this.#length))
    return this.#length < this.#wanted ? undefined : { message: this.#message, body: this.#body.subarray(0, this.#wanted) }
  }

  #add(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#body.length) {
      const larger = Buffer.alloc(Math.min(this.#wanted, 2 * (this.#length + bytes.length)))
      this.#body.copy(larger, 0, 0, this.#length)
      this.#body = larger
    }
    this.#body.set(bytes, this.#length)
    this.#length += bytes.length
  }
}
