import { InvalidArgumentError, type Command } from 'commander'
import { shownDeep, shownJson, shownLines } from '../core/text.ts'

/** What every verb gets besides its own arguments. */
export interface Global {
  readonly socket: string
  readonly json: boolean
}

/** @throws InvalidArgumentError for anything but a job id */
export function jobId(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError('a Slurm job id is a positive number.')
  return Number(text)
}

/**
 * The one way out: JSON for programs, or text for people.
 * @param text makes it of the value, in which no name clears a screen or begins a line any more
 */
export function print<T>(global: Global, value: T, text: (value: T) => string): void {
  process.stdout.write(`${global.json ? shownJson(JSON.stringify(value, undefined, 2)) : shownLines(text(shownDeep(value)))}\n`)
}

/** The options given before and after the verb, as one. */
export function globalOptions(command: Command): Global {
  const { socket, json } = command.optsWithGlobals<Global>()
  return { socket, json: json || command.parent?.opts<Global>().json === true }
}
