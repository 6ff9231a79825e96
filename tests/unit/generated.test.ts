import { beforeAll, describe, expect, test } from '@jest/globals'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { generate } from '../../docs/generate.ts'
import { settingTable } from '../../daemon/core/config.ts'
import { errorKinds } from '../../daemon/core/errors.ts'
import { attributeKinds, fidelity } from '../../daemon/core/fidelity.ts'

/** What is made from the code agrees with it, both ways. */

const root = join(import.meta.dirname, '..', '..')

/** Texts of all files below folders whose names match, by path. */
function texts(folders: readonly string[], matches: RegExp): Map<string, string> {
  return new Map(folders.flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && matches.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [path.slice(root.length + 1), readFileSync(path, 'utf8')] as const)))
}

describe('generated files', () => {
  let generated: Readonly<Record<string, string>>

  beforeAll(async () => {
    generated = await generate()
  })

  test.each(['docs/reference/configuration.md', 'docs/reference/errors.md', 'docs/reference/cli.md', 'docs/reference/fidelity.md', 'docs/reference/openapi.json', 'docs/reference/peer-openapi.json', 'slurm-scripts/snippets/stint.toml'])(
    '%s is as `npm run docs` makes it', (path) => {
      expect(readFileSync(join(root, path), 'utf8')).toBe(generated[path])
    },
  )
})

describe('the catalogue of errors', () => {
  const sources = texts(['daemon', 'plugins'], /\.(ts|c|h)$/)
  const codes = (text: string): string[] => text.match(/\bE_[A-Z]+(?:_[A-Z]+)*\b(?!_?\*)/g) ?? []

  test('every code in sources, scripts and pages is in the catalogue', () => {
    const used = [...sources, ...texts(['docs', 'slurm-scripts', 'tests/cluster'], /\.(md|sh|ts)$/)].flatMap(([path, text]) => codes(text).map((code) => ({ path, code })))
    expect(used.length).toBeGreaterThan(50)
    expect(used.filter(({ code }) => !Object.hasOwn(errorKinds, code))).toEqual([])
  })

  test('every code of the catalogue is used', () => {
    const used = new Set([...sources].filter(([path]) => path !== 'daemon/core/errors.ts').flatMap(([, text]) => codes(text.replace(/^\s*(\/?\*|\/\/).*$/gm, ''))))
    expect(Object.keys(errorKinds).filter((code) => !used.has(code))).toEqual([])
  })

  test.each(Object.entries(errorKinds))('%s has a status, an exit code and a hint that ends as a sentence', (_, { http, exit, hint }) => {
    expect(http).toBeGreaterThanOrEqual(400)
    expect(http).toBeLessThan(600)
    expect(exit).toBeGreaterThan(1) // 1 is the finding of `stint doctor`.
    expect(exit).toBeLessThan(126)
    expect(hint).toMatch(/\S{2}\.$/)
  })
})

describe('what survives a move', () => {
  const kinds = Object.values(fidelity).flat()

  test('every case that is named is there, and what we do has one', () => {
    const cases = new Set(readdirSync(join(root, 'tests/fixtures/moves')))
    expect(kinds.flatMap((kind) => kind.cases).filter((name) => !cases.has(`${name}.sh`))).toEqual([])
    expect(kinds.filter(({ outcome, cases: shown }) => ['put back by us', 'refused at the save', 'told to the owner'].includes(outcome) && shown.length === 0)).toEqual([])
  })

  test('the helper has the attributes of the table, and sets those that are put back', () => {
    const helper = readFileSync(join(root, 'plugins/spank/ledger/ledger_attributes.c'), 'utf8')
    const inC = [...helper.matchAll(/^ {4}\{"([a-z-]+)", read_\w+, (\w+), (true|false)\},$/gm)].map(([, name, write, thread]) => [name, write === 'NULL' ? 'told to the owner' : 'put back by us', thread === 'true' ? 'thread' : 'process'])
    expect(inC.toSorted()).toEqual(Object.entries(attributeKinds).map(([name, { outcome, of }]) => [name, outcome, of]).toSorted())
  })
})

describe('the table of settings', () => {
  const sources = [...texts(['daemon'], /\.ts$/)].filter(([path]) => path !== 'daemon/core/config.ts').map(([, text]) => text).join('\n')

  const names = Object.entries(settingTable).flatMap(([section, keys]) => Object.keys(keys).map((key) => `${section}.${key}`))

  function isRead(name: string): boolean {
    const [section, key] = name.split('.')
    const byPart = new RegExp(`\\{[^}\\n]*\\b${key ?? ''}\\b[^}\\n]*\\} = [\\w.]*config\\.${section ?? ''}\\b`)
    return new RegExp(`\\b${section ?? ''}\\.${key ?? ''}\\b`).test(sources) || byPart.test(sources)
  }

  test.each(names)('%s is read by something', (name) => {
    expect(isRead(name)).toBe(true)
  })

  test('a measure has its unit in its name', () => {
    const measures = Object.values(settingTable).flatMap((keys) => Object.entries(keys)).filter(([, { default: value }]) => typeof value === 'number').map(([key]) => key)
    expect(measures.filter((key) => !/_(seconds|hours|days|mb|gb|mb_per_second|per_(user|run|second|minute|hour))$/.test(key))).toEqual(['keep_checkpoints', 'writers', 'mtu', 'vxlan_port', 'safety', 'parallel', 'look_limit', 'look_helpers', 'attempts', 'moves', 'ssh_port', 'attempts'])
  })
})
