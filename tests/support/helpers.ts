import { execa } from 'execa'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const source = join(import.meta.dirname, '../../plugins/spank')

/**
 * Builds stint-init with its other names into a new directory and returns that. The plugin itself needs Slurm's headers.
 * With STINT_SANITIZE in the environment (`address,undefined`) they end with a report on standard error, and by SIGABRT, at the first fault.
 * @param flags more for the compiler, such as `-DNAME=VALUE`
 */
export async function buildHelpers(...flags: string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'stint-helpers-'))
  await execa('make', ['-C', source, `BUILD=${directory}`, `CFLAGS=${['-O2', ...flags].join(' ')}`, `SANITIZE=${process.env['STINT_SANITIZE'] ?? ''}`,
    ...['stint-init', 'stint-barrier', 'stint-agent'].map((name) => join(directory, name))])
  return directory
}

/** Looks every 10 ms until something holds. @throws Error after ten seconds */
export async function soon(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!holds()) {
    if (Date.now() > end) throw new Error(`not within 10 s: ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}
