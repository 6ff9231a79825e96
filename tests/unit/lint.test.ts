import { beforeAll, describe, expect, test } from '@jest/globals'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'

/** The project's own lint rules, seen at work: each text stands in the place of a real file of its folder. */

const root = join(import.meta.dirname, '..', '..')

function fileIn(folder: string): string {
  const found = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).sort().find((name) => name.endsWith('.ts'))
  if (found === undefined) throw new Error(`no TypeScript in ${folder}`)
  return join(folder, found)
}

/** A path into another folder as seen from the file that stands in for `folder`. */
function importOf(folder: string, target: string, how: (path: string) => string): { file: string; text: string } {
  const file = fileIn(folder)
  return { file, text: how(`${'../'.repeat(file.split('/').length - 1)}${target}`) }
}

const value = (path: string) => `export { x } from '${path}'\n`
const type = (path: string) => `export type { X } from '${path}'\n`
const dynamic = (path: string) => `export const x: unknown = await import('${path}')\n`

const refused = {
  'core imports an adapter': [importOf('daemon/core', 'daemon/linux/users.ts', value), 'core must not import linux'],
  'core imports a type of an adapter': [importOf('daemon/core', 'daemon/slurm/scontrol.ts', type), 'core must not import slurm'],
  'core imports the boot order': [importOf('daemon/core', 'daemon/boot.ts', value), 'core must not import boot'],
  'core does input and output': [{ file: fileIn('daemon/core'), text: "export { readFile } from 'node:fs/promises'\n" }, 'core has rules without I/O'],
  'an adapter imports an action': [importOf('daemon/slurm', 'daemon/actions/requeue.ts', value), 'slurm must not import actions'],
  'an adapter imports another one': [importOf('daemon/catalogue', 'daemon/linux/users.ts', value), 'catalogue must not import linux'],
  'an action imports an adapter with state': [importOf('daemon/actions', 'daemon/slurm/scontrol.ts', value), 'types of slurm only'],
  'an action imports a store': [importOf('daemon/actions', 'plugins/stores/store.ts', value), 'types of plugins/stores only'],
  'an action imports a route': [importOf('daemon/actions', 'daemon/http/server.ts', type), 'actions must not import http'],
  'a plugin imports the catalogue': [importOf('plugins/engines', 'daemon/catalogue/catalogue.ts', type), 'must not import catalogue'],
  'the command line imports the catalogue': [importOf('daemon/cli', 'daemon/catalogue/catalogue.ts', value), 'cli must not import catalogue'],
  'the command line imports the catalogue late': [importOf('daemon/cli', 'daemon/catalogue/catalogue.ts', dynamic), 'cli must not import catalogue'],
  'the command line imports a route': [importOf('daemon/cli', 'daemon/http/server.ts', value), 'types of http only'],
  'the daemon imports a test': [importOf('daemon/http', 'tests/support/cluster.ts', value), 'http must not import tests'],
  'the process leaves in the middle': [{ file: fileIn('daemon/http'), text: 'process.exit(1)\n' }, 'Leave by process.exitCode'],
  'a default export': [{ file: fileIn('daemon/core'), text: 'export default 1\n' }, 'Named exports only'],
  'a promise nobody waits for': [{ file: fileIn('daemon/core'), text: 'void 0\nPromise.resolve(1)\n' }, 'no-floating-promises'],
  'an `any` that spreads': [{ file: fileIn('tests/unit'), text: "export const x: number = JSON.parse('1')\n" }, 'no-unsafe-assignment'],
} as const

const accepted = {
  'an action imports core': importOf('daemon/actions', 'daemon/core/states.ts', value),
  'an action imports a type of an adapter': importOf('daemon/actions', 'daemon/slurm/scontrol.ts', type),
  'the command line imports the types of the answers': importOf('daemon/cli', 'daemon/http/schemas.ts', type),
  'a plugin imports another one': importOf('plugins/engines', 'plugins/stores/store.ts', value),
  'boot.ts imports an adapter': { file: 'daemon/boot.ts', text: value('./slurm/scontrol.ts') },
  'a test imports anything': importOf('tests/unit', 'daemon/cli/main.ts', value),
} as const

describe('lint', () => {
  let complaints: readonly string[][]

  beforeAll(async () => {
    const texts = [...Object.values(refused).map(([given]) => given), ...Object.values(accepted)]
    const { stdout } = await execa(process.execPath, [join(root, 'tests/lint/lint-texts.ts')], { cwd: root, input: JSON.stringify(texts) })
    complaints = JSON.parse(stdout) as string[][]
  }, 60_000)

  test.each(Object.entries(refused).map(([name, [, expected]], index) => ({ name, expected, index })))('refuses: $name', ({ expected, index }) => {
    expect(complaints[index]?.join('\n')).toContain(expected)
  })

  test.each(Object.keys(accepted).map((name, index) => ({ name, index: Object.keys(refused).length + index })))('accepts: $name', ({ index }) => {
    expect(complaints[index]).toEqual([])
  })
})
