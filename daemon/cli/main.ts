import { Command, CommanderError } from 'commander'
import { asStintError, errorKinds } from '../core/errors.ts'
import { settings } from '../core/config.ts'
import { checkCommand } from './check.ts'
import { checkpointCommand } from './checkpoint.ts'
import { doctorCommand } from './doctor.ts'
import { imagesCommand } from './images.ts'
import { statusCommand } from './status.ts'

async function main(): Promise<void> {
  const program = new Command('stint')
    .description('Long jobs in short allocations: see and steer the checkpoints of your Slurm jobs.')
    .option('--json', 'machine-readable output', false)
    .option('--socket <path>', "the daemon's socket", settings.paths.socket.default)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => { write(`stint: E_BAD_REQUEST: ${text.replace(/^error: /, '')}`) } })
  for (const add of [statusCommand, checkpointCommand, imagesCommand, checkCommand, doctorCommand]) add(program)
  for (const verb of program.commands) verb.option('--json', 'machine-readable output', false).exitOverride()
  await program.parseAsync()
}

try {
  await main()
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
