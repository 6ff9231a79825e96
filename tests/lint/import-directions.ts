import { dirname, join, relative, sep } from 'node:path'
import type { Rule } from 'eslint'

/**
 * Who may know whom (docs/architecture.md, "Layout"). A folder that is not in the table may import nothing of ours,
 * so a new folder must be placed here first. `core` and `linux` are functions without state of their own and may be
 * imported where they are named; everything with state is handed over by boot.ts, and its users know the type only.
 */
const mayImport: Readonly<Record<string, { readonly values: readonly string[]; readonly types?: readonly string[] }>> = {
  core: { values: [] },
  'config-file': { values: ['core'] },
  linux: { values: ['core'] },
  slurm: { values: ['core'], types: ['linux'] },
  cluster: { values: ['core'], types: ['linux'] },
  catalogue: { values: ['core'] },
  plugins: { values: ['core', 'linux'] },
  actions: { values: ['core', 'linux', 'plugins/mpi'], types: ['slurm', 'cluster', 'catalogue', 'sandbox', 'plugins'] },
  sandbox: { values: ['core', 'linux', 'actions'], types: ['slurm', 'cluster', 'catalogue', 'plugins'] },
  http: { values: ['core', 'linux', 'actions'], types: ['slurm', 'cluster', 'catalogue', 'plugins'] },
  cli: { values: ['core', 'config-file'], types: ['http'] },
  boot: { values: ['core', 'linux', 'slurm', 'cluster', 'catalogue', 'plugins', 'actions', 'sandbox', 'http'] },
  main: { values: ['core', 'config-file', 'boot'] },
  docs: { values: ['core', 'http', 'cli'], types: ['actions'] },
}

/** `daemon/core/states.ts` -> `core`, `daemon/boot.ts` -> `boot`, `plugins/engines/criu/log.ts` -> `plugins/engines`. */
function layerOf(path: string): string {
  const [top = '', second = '', third] = path.split(sep)
  if (top === 'daemon') return third === undefined ? second.replace(/\.ts$/, '') : second
  return top === 'plugins' ? join(top, second) : top
}

const covers = (names: readonly string[], layer: string): boolean => names.some((name) => layer === name || layer.startsWith(`${name}/`))

/** What is wrong with one import, or undefined. Paths are relative to the project's root. */
function complaint(importer: string, imported: string, typesOnly: boolean): string | undefined {
  const from = layerOf(importer)
  const to = layerOf(imported)
  if (from === to || (from.startsWith('plugins/') && to.startsWith('plugins/'))) return undefined
  const allowed = mayImport[from.split('/')[0] ?? '']
  if (allowed === undefined) return `${from} has no place in tests/lint/import-directions.ts yet.`
  if (covers(allowed.values, to)) return undefined
  if (!covers(allowed.types ?? [], to)) return `${from} must not import ${to} (docs/architecture.md, "Layout").`
  return typesOnly ? undefined : `${from} may know the types of ${to} only: use \`import type\`; boot.ts hands over the rest.`
}

/** What the TypeScript parser adds to the nodes of JavaScript. */
interface Import { readonly importKind?: 'type' | 'value'; readonly exportKind?: 'type' | 'value'; readonly source?: { readonly type: string; readonly value?: unknown } | null }

/** ESLint rule for daemon/, plugins/ and docs/; also sees re-exports and import(). */
export const importDirections: Rule.RuleModule = {
  meta: { type: 'problem', schema: [], messages: { direction: '{{ complaint }}' } },
  create(context) {
    const importer = relative(context.cwd, context.filename)

    function judge(specifier: string, typesOnly: boolean): string | undefined {
      if (specifier.startsWith('.')) return complaint(importer, relative(context.cwd, join(dirname(context.filename), specifier)), typesOnly)
      if (specifier.startsWith('node:') && layerOf(importer) === 'core' && !typesOnly) return 'core has rules without I/O: it imports nothing of Node.js.'
      return undefined
    }

    function check(node: Rule.Node): void {
      const { source, importKind, exportKind } = node as Import
      if (typeof source?.value !== 'string') return
      const typesOnly = importKind === 'type' || exportKind === 'type' || (node.type as string) === 'TSImportType'
      const found = judge(source.value, typesOnly)
      if (found !== undefined) context.report({ node, messageId: 'direction', data: { complaint: found } })
    }

    return { ImportDeclaration: check, ExportNamedDeclaration: check, ExportAllDeclaration: check, ImportExpression: check, TSImportType: check }
  },
}
