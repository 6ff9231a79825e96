import { parseArgs } from 'node:util'
import { boot } from './boot.ts'
import { defaultConfigPath, loadConfig } from './config-file.ts'
import { asStintError, errorKinds } from './core/errors.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string', default: defaultConfigPath } } })
  const config = loadConfig(values.config)
  const stopping = new AbortController()
  const { promise, resolve } = Promise.withResolvers<undefined>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { resolve(undefined) })
  const daemon = await boot(config, stopping.signal)
  await promise
  stopping.abort()
  await daemon[Symbol.asyncDispose]()
}

try {
  await main()
} catch (cause) {
  const error = asStintError(cause)
  process.stderr.write(`stintd: ${error.code}: ${error.message}\n  ${error.hint}\n`)
  process.exitCode = errorKinds[error.code].exit
}
