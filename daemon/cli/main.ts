import { CommanderError } from 'commander'
import { asStintError, errorKinds } from '../core/errors.ts'
import { makeProgram } from './program.ts'

try {
  await makeProgram().parseAsync()
} catch (cause) {
  if (cause instanceof CommanderError) {
    process.exitCode = cause.exitCode === 0 ? 0 : errorKinds.E_BAD_REQUEST.exit
  } else {
    const error = asStintError(cause)
    if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message, hint: error.hint })}\n`)
    process.stderr.write(`stint: ${error.code}: ${error.message}\n  ${error.hint}\n`)
    process.exitCode = errorKinds[error.code].exit
  }
}
