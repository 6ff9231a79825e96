import { parseArgs } from 'node:util'
import { boot } from './boot.ts'
import { defaultConfigPath, loadConfig } from './config-file.ts'
import { StintError, asStintError, errorKinds } from './core/errors.ts'
import { shown } from './core/text.ts'

const usage = `Usage: stintd [--config FILE]\n\nThe daemon of this node; FILE is ${defaultConfigPath} by default. \`stint config show\` lists every key.\n`

/** @throws StintError E_BAD_REQUEST */
function readArguments(): { config: string; help: boolean } {
  try {
    return parseArgs({ options: { config: { type: 'string', default: defaultConfigPath }, help: { type: 'boolean', short: 'h', default: false } } }).values
  } catch (cause) {
    throw new StintError('E_BAD_REQUEST', asStintError(cause).message, { cause, hint: 'See `stintd --help`.' })
  }
}

async function main(): Promise<void> {
  const values = readArguments()
  if (values.help) {
    process.stdout.write(usage)
    return
  }
  const config = loadConfig(values.config)
  const stopping = new AbortController()
  const { promise, resolve } = Promise.withResolvers<undefined>()
  // Not `once`: execa ends the process by a signal that nobody else listens to any more while a program of its runs.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => { resolve(undefined) })
  const daemon = await boot(config, stopping.signal)
  await promise
  stopping.abort()
  await daemon[Symbol.asyncDispose]()
  // A dump may be under way, and can take minutes: the next daemon takes it from where it is, as after a crash.
  // eslint-disable-next-line no-restricted-syntax -- everything opened is disposed of
  process.exit()
}

try {
  await main()
} catch (cause) {
  const error = asStintError(cause)
  process.stderr.write(`stintd: ${error.code}: ${shown(error.message)}\n  ${shown(error.hint)}\n`)
  process.exitCode = errorKinds[error.code].exit
}
