import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

const noDefaultExport = [
  { selector: 'ExportDefaultDeclaration', message: 'Named exports only.' },
  { selector: "ExportSpecifier[exported.name='default']", message: 'Named exports only.' },
]
const noExit = [
  { selector: "CallExpression[callee.object.name='process'][callee.property.name='exit']", message: 'Leave by process.exitCode, so that everything opened is disposed of.' },
  { selector: "ImportDeclaration[source.value=/^(node:)?process$/] ImportSpecifier[imported.name='exit']", message: 'Leave by process.exitCode, so that everything opened is disposed of.' },
]

export default defineConfig(
  { ignores: ['node_modules/**', 'plugins/spank/build/**'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // Interfaces promise asynchrony that not every implementation needs.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-control-regex': 'error',
      'no-restricted-syntax': ['error', ...noExit, ...noDefaultExport],
    },
  },
  // The callers of these files ask for a default export.
  { files: ['*.config.{js,ts}', 'tests/lint/*.config.js', 'tests/support/cluster-{up,down}.ts'], rules: { 'no-restricted-syntax': ['error', ...noExit] } },
  // Payloads of tests: plain programs, not of the TypeScript project.
  { files: ['tests/fixtures/**/*.{js,mjs}'], extends: [tseslint.configs.disableTypeChecked] },
)
