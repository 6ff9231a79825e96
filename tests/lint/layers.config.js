/**
 * Who may know whom (docs/architecture.md, "Layout"): a layer is a folder or a single file of daemon/, `plugins` or `docs`.
 * `values` may be imported; of `types` only the types, what stands behind them is handed over by boot.ts. A layer that is not in the
 * table may import nothing of ours, so a new folder must be placed here first.
 */
const adapters = ['slurm', 'cluster', 'catalogue', 'plugins']
/** @type {Readonly<Record<string, { readonly values: readonly string[], readonly types?: readonly string[] }>>} */
const layers = {
  core: { values: [] },
  'config-file': { values: ['core'] },
  'key-file': { values: ['core', 'linux'] },
  linux: { values: ['core'] },
  cluster: { values: ['core'], types: ['linux'] },
  catalogue: { values: ['core'] },
  plugins: { values: ['core', 'linux'] },
  context: { values: ['core'], types: ['linux', 'member', ...adapters] },
  stopping: { values: ['core'], types: ['context'] },
  slurm: { values: ['core', 'stopping'], types: ['linux', 'context'] },
  images: { values: ['core', 'linux', 'stopping', 'context'], types: adapters },
  member: { values: ['core', 'linux', 'images', 'stopping', 'context', 'plugins/mpi'], types: adapters },
  run: { values: ['core', 'linux', 'slurm', 'images', 'member', 'stopping', 'context'], types: adapters },
  node: { values: ['core', 'linux', 'slurm', 'images', 'member', 'run', 'stopping', 'context'], types: adapters },
  http: { values: ['core', 'linux', 'images', 'member', 'run', 'node', 'stopping', 'context'], types: adapters },
  version: { values: [] },
  cli: { values: ['core', 'config-file', 'key-file', 'version', 'linux/node-name'], types: ['http'] },
  boot: { values: ['core', 'linux', ...adapters, 'images', 'member', 'run', 'node', 'http', 'context', 'key-file', 'version'] },
  main: { values: ['core', 'config-file', 'boot'] },
  docs: { values: ['core', 'http', 'cli'], types: ['context'] },
}

/**
 * Files of a layer, as a pattern of their paths.
 * @param {string} layer
 */
const filesOf = (layer) => (layer === 'docs' || layer.startsWith('plugins') ? `^${layer}/` : `^daemon/${layer}(/|[.]ts$)`)
const ours = '^(daemon|plugins|docs|tests)/'

/** @type {'error'} */
const severity = 'error'
/** @type {['type-only']} */
const typesOnly = ['type-only']
/** What Node.js brings. @type {['core']} */
const nodes = ['core']

const directions = Object.entries(layers).flatMap(([layer, { values, types = [] }]) => {
  const from = { path: filesOf(layer) }
  const may = [layer, ...values].map(filesOf)
  const mayKnow = [...may, ...types.map(filesOf)]
  return [
    { name: `${layer}-must-not-import`, severity, comment: `${layer} may import ${values.join(', ') || 'nothing of ours'}`, from, to: { path: ours, pathNot: mayKnow } },
    ...(types.length === 0 ? [] : [{
      name: `${layer}-knows-types-only`, severity, comment: `of ${types.join(', ')} ${layer} may know the types: use \`import type\``, from, to: { path: types.map(filesOf), pathNot: may, dependencyTypesNot: typesOnly },
    }]),
  ]
})

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...directions,
    { name: 'no-circle', severity, comment: 'files that import each other cannot be read one at a time', from: {}, to: { circular: true } },
    { name: 'place-new-folders', severity, comment: 'place this folder in tests/lint/layers.config.js', from: { path: '^(daemon|plugins|docs)/', pathNot: Object.keys(layers).map(filesOf) }, to: { path: ours } },
    { name: 'core-without-io', severity, comment: 'core has rules without I/O: it imports nothing of Node.js', from: { path: filesOf('core') }, to: { dependencyTypes: nodes, dependencyTypesNot: typesOnly } },
    { name: 'no-orphan', severity, comment: 'nobody imports this file', from: { path: '^(daemon|plugins)/', orphan: true }, to: {} },
  ],
  options: { tsPreCompilationDeps: true, tsConfig: { fileName: 'tsconfig.json' }, doNotFollow: { path: 'node_modules' } },
}
