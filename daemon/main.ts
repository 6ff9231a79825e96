import { parseArgs } from 'node:util'
import { boot, loadConfig } from './boot.ts'
import { printConfig } from './core/config.ts'
import { asStintError, errorKinds } from './core/errors.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string', default: '/etc/stint/stint.toml' }, 'print-config': { type: 'boolean', default: false } } })
  const config = loadConfig(values.config)
  if (values['print-config']) {
    process.stdout.write(printConfig(config))
    return
  }
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
