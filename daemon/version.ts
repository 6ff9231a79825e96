import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Of this checkout, by package.json. */
export function versionOfStint(): string {
  return (JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8')) as { version: string }).version
}
