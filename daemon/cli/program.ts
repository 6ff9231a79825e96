import { Command } from 'commander'
import { settings } from '../core/config.ts'
import { shownLines } from '../core/text.ts'
import { auditCommand } from './audit.ts'
import { checkCommand } from './check.ts'
import { checkpointCommand } from './checkpoint.ts'
import { configCommand } from './config.ts'
import { debugCommand } from './debug.ts'
import { doctorCommand } from './doctor.ts'
import { drainCommand } from './drain.ts'
import { imagesCommand } from './images.ts'
import { reclaimCommand } from './reclaim.ts'
import { keyCommand } from './key.ts'
import { statusCommand } from './status.ts'

/** Every verb takes --json, before and after it; errors come back as CommanderError. */
function finish(command: Command): void {
  command.exitOverride().helpCommand(false)
  for (const verb of command.commands) {
    verb.option('--json', 'machine-readable output', false)
    finish(verb)
  }
}

/** The command line as data: main.ts runs it, the reference page prints it. */
export function makeProgram(): Command {
  const program = new Command('stint')
    .description('Long jobs in short allocations: see and steer the checkpoints of your Slurm jobs.')
    .option('--json', 'machine-readable output', false)
    .option('--socket <path>', "the daemon's socket", settings.paths.socket.default)
    .configureOutput({ outputError: (text, write) => { write(`stint: E_BAD_REQUEST: ${shownLines(text.replace(/^error: /, ''))}`) } })
  for (const add of [statusCommand, checkpointCommand, imagesCommand, reclaimCommand, checkCommand, drainCommand, auditCommand, doctorCommand, debugCommand, keyCommand, configCommand]) add(program)
  finish(program)
  return program
}
