import { CommanderError } from 'commander'
import { asStintError, errorKinds, systemCode } from '../core/errors.ts'
import { shown, shownJson } from '../core/text.ts'
import { makeProgram } from './program.ts'

function fail(cause: unknown): void {
  if (cause instanceof CommanderError) {
    process.exitCode = cause.exitCode === 0 ? 0 : errorKinds.E_BAD_REQUEST.exit
    return
  }
  const error = asStintError(cause)
  if (process.argv.includes('--json')) process.stdout.write(`${shownJson(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }))}\n`)
  process.stderr.write(`stint: ${error.code}: ${shown(error.message)}\n  ${shown(error.hint)}\n`)
  process.exitCode = errorKinds[error.code].exit
}

// A reader that has seen enough (`stint status | head`) is no error.
process.stdout.once('error', (error) => {
  if (systemCode(error) !== 'EPIPE') fail(error)
})
try {
  await makeProgram().parseAsync()
} catch (cause) {
  fail(cause)
}
