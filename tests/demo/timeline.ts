/** `1:05` for 65 seconds. */
export function minutes(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

/** Lines with the time since the start; on a terminal also one line that is rewritten in place. */
export class Timeline {
  readonly #stream: NodeJS.WriteStream
  readonly #began = Date.now()
  #live = false

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  get seconds(): number {
    return (Date.now() - this.#began) / 1000
  }

  #clear(): void {
    if (this.#live) this.#stream.write('\r\u001b[K')
    this.#live = false
  }

  /** One event. */
  add(subject: string, text: string): void {
    this.#clear()
    this.#stream.write(`${minutes(this.seconds).padStart(5)}  ${subject.padEnd(14)} ${text}\n`)
  }

  /** What goes on right now; nothing where no terminal is. */
  now(subject: string, text: string): void {
    if (!this.#stream.isTTY) return
    this.#clear()
    // Terminals that do not say their width have 0.
    const width = this.#stream.columns > 0 ? this.#stream.columns : 80
    this.#stream.write(`${minutes(this.seconds).padStart(5)}  ${subject.padEnd(14)} ${text}`.slice(0, width - 1))
    this.#live = true
  }

  /** Text without a time: headings, tables. */
  print(text: string): void {
    this.#clear()
    this.#stream.write(`${text}\n`)
  }
}
