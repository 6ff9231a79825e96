import type { Config } from 'jest'

const common = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': ['@swc/jest', { swcrc: false, jsc: { target: 'es2024', parser: { syntax: 'typescript' } }, module: { type: 'es6' } }],
  },
} satisfies Config

const withCluster = {
  ...common,
  globalSetup: '<rootDir>/tests/support/cluster-up.ts',
  globalTeardown: '<rootDir>/tests/support/cluster-down.ts',
} satisfies Config

/**
 * The cluster tests share one virtual cluster, so whatever runs them passes --runInBand: see the scripts in package.json. Those of
 * the booted machine take minutes of emulation and run on their own.
 */
const config: Config = {
  projects:
    process.env['STINT_TEST_MACHINE'] === 'vm'
      ? [{ ...withCluster, displayName: 'vm', testMatch: ['<rootDir>/tests/vm/**/*.test.ts'] }]
      : [
          { ...common, displayName: 'unit', testMatch: ['<rootDir>/tests/unit/**/*.test.ts'] },
          { ...withCluster, displayName: 'cluster', testMatch: ['<rootDir>/tests/cluster/**/*.test.ts'] },
        ],
}

export default config
