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

const refused = {
  'the process leaves in the middle': [{ file: fileIn('daemon/http'), text: 'process.exit(1)\n' }, 'Leave by process.exitCode'],
  'a default export': [{ file: fileIn('daemon/core'), text: 'export default 1\n' }, 'Named exports only'],
  'a promise nobody waits for': [{ file: fileIn('daemon/core'), text: 'void 0\nPromise.resolve(1)\n' }, 'no-floating-promises'],
  'an `any` that spreads': [{ file: fileIn('tests/unit'), text: "export const x: number = JSON.parse('1')\n" }, 'no-unsafe-assignment'],
} as const

const accepted = {
  'a named export': { file: fileIn('daemon/core'), text: 'export const x = 1\n' },
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
