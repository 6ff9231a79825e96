import { pino, type Logger } from 'pino'
import { shownJson } from '../core/text.ts'

/** Lines of JSON on standard output; journalctl shows them to an admin's terminal. */
export function makeLog(): Logger {
  const output = pino.destination({ fd: 1, sync: true })
  return pino({ level: process.env['STINT_LOG_LEVEL'] ?? 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime }, { write: (line: string) => { output.write(shownJson(line)) } })
}
