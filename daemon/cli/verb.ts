import { InvalidArgumentError, type Command } from 'commander'

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

/** Prints JSON for programs, or the text for people. */
export function print(global: Global, value: unknown, text: string): void {
  process.stdout.write(`${global.json ? JSON.stringify(value, undefined, 2) : text}\n`)
}

/** The options given before and after the verb, as one. */
export function globalOptions(command: Command): Global {
  const { socket, json } = command.optsWithGlobals<Global>()
  return { socket, json: json || command.parent?.opts<Global>().json === true }
}
