import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { execa } from 'execa'

/** tests/lint/layers.config.js seen at work on a tree of files that import one other each. */

const root = join(import.meta.dirname, '..', '..')

const value = (path: string): string => `export { x } from '${path}'\n`
const type = (path: string): string => `export type { X } from '${path}'\n`
const dynamic = (path: string): string => `export const y: unknown = await import('${path}')\n`

interface Case { readonly from: string; readonly to: string; readonly how: (path: string) => string; readonly rule?: string }

const refused = {
  'core imports an adapter': { from: 'daemon/core', to: 'daemon/linux/x.ts', how: value, rule: 'core-must-not-import' },
  'core imports a type of an adapter': { from: 'daemon/core', to: 'daemon/slurm/x.ts', how: type, rule: 'core-must-not-import' },
  'core imports the boot order': { from: 'daemon/core', to: 'daemon/boot.ts', how: value, rule: 'core-must-not-import' },
  'core does input and output': { from: 'daemon/core', to: 'node:fs', how: value, rule: 'core-without-io' },
  'an adapter imports a verb': { from: 'daemon/slurm', to: 'daemon/run/x.ts', how: value, rule: 'slurm-must-not-import' },
  'an adapter imports another one': { from: 'daemon/catalogue', to: 'daemon/linux/x.ts', how: value, rule: 'catalogue-must-not-import' },
  'a participant imports its coordinator': { from: 'daemon/member', to: 'daemon/run/x.ts', how: value, rule: 'member-must-not-import' },
  'a participant knows a type of its coordinator': { from: 'daemon/member', to: 'daemon/run/x.ts', how: type, rule: 'member-must-not-import' },
  'a run imports the registry': { from: 'daemon/run', to: 'daemon/node/x.ts', how: value, rule: 'run-must-not-import' },
  'a run imports an adapter with state': { from: 'daemon/run', to: 'daemon/catalogue/x.ts', how: value, rule: 'run-knows-types-only' },
  'a participant imports a store': { from: 'daemon/member', to: 'plugins/stores/x.ts', how: value, rule: 'member-knows-types-only' },
  'a node imports a route': { from: 'daemon/node', to: 'daemon/http/x.ts', how: type, rule: 'node-must-not-import' },
  'a plugin imports the catalogue': { from: 'plugins/engines', to: 'daemon/catalogue/x.ts', how: type, rule: 'plugins-must-not-import' },
  'the command line imports the catalogue': { from: 'daemon/cli', to: 'daemon/catalogue/x.ts', how: value, rule: 'cli-must-not-import' },
  'the command line imports the catalogue late': { from: 'daemon/cli', to: 'daemon/catalogue/x.ts', how: dynamic, rule: 'cli-must-not-import' },
  'the command line imports a route': { from: 'daemon/cli', to: 'daemon/http/x.ts', how: value, rule: 'cli-knows-types-only' },
  'the daemon imports a test': { from: 'daemon/http', to: 'tests/support/x.ts', how: value, rule: 'http-must-not-import' },
  'a folder has no place': { from: 'daemon/misc', to: 'daemon/core/x.ts', how: value, rule: 'place-new-folders' },
} satisfies Readonly<Record<string, Case>>

const accepted = {
  'a run imports core': { from: 'daemon/run', to: 'daemon/core/x.ts', how: value },
  'a run imports its participant': { from: 'daemon/run', to: 'daemon/member/x.ts', how: value },
  'a run imports a type of an adapter': { from: 'daemon/run', to: 'daemon/catalogue/x.ts', how: type },
  'a participant imports the settings of MPI': { from: 'daemon/member', to: 'plugins/mpi/x.ts', how: value },
  'the command line imports the types of the answers': { from: 'daemon/cli', to: 'daemon/http/x.ts', how: type },
  'a plugin imports another one': { from: 'plugins/engines', to: 'plugins/stores/x.ts', how: value },
} satisfies Readonly<Record<string, Case>>

interface Violation { readonly from: string; readonly rule: { readonly name: string } }

describe('import directions', () => {
  const tree = mkdtempSync(join(tmpdir(), 'stint-directions-'))
  const all: Readonly<Record<string, Case>> = { ...refused, ...accepted }
  const fileOf = (name: string): string => join(all[name]?.from ?? '', `case-${Object.keys(all).indexOf(name)}.ts`)
  let violations: readonly Violation[]

  function write(path: string, text: string): void {
    mkdirSync(dirname(join(tree, path)), { recursive: true })
    writeFileSync(join(tree, path), text)
  }

  beforeAll(async () => {
    for (const [name, { to, how }] of Object.entries(all)) {
      const file = fileOf(name)
      if (!to.startsWith('node:')) write(to, 'export const x = 1\nexport type X = number\n')
      write(file, how(to.startsWith('node:') ? to : relative(dirname(file), to).replace(/^(?!\.)/, './')))
    }
    write('daemon/run/one.ts', "import type { Other } from './other.ts'\nexport type One = Other\n")
    write('daemon/run/other.ts', "import type { One } from './one.ts'\nexport type Other = One\n")
    write('tsconfig.json', '{ "compilerOptions": { "module": "nodenext" } }')
    const { stdout } = await execa(process.execPath, [
      join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs'), '--config', join(root, 'tests/lint/layers.config.js'), '--output-type', 'json', 'daemon', 'plugins',
    ], { cwd: tree, reject: false })
    violations = (JSON.parse(stdout) as { summary: { violations: Violation[] } }).summary.violations
  }, 60_000)

  afterAll(() => { rmSync(tree, { recursive: true, force: true }) })

  const found = (file: string): string[] => violations.filter(({ from, rule }) => from === file && rule.name !== 'no-orphan').map(({ rule }) => rule.name)

  test.each(Object.entries(refused))('refuses: %s', (name, { rule }) => {
    expect(found(fileOf(name))).toContain(rule)
  })

  test.each(Object.keys(accepted))('accepts: %s', (name) => {
    expect(found(fileOf(name))).toEqual([])
  })

  test('refuses: two files know each other, be it by types', () => {
    expect(found('daemon/run/one.ts')).toContain('no-circle')
  })
})
