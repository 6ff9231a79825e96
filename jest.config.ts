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
  setupFilesAfterEnv: ['<rootDir>/tests/support/empty-queue.ts'],
  globalSetup: '<rootDir>/tests/support/cluster-up.ts',
  globalTeardown: '<rootDir>/tests/support/cluster-down.ts',
} satisfies Config

const suites = {
  /** `npm test` and `.ci/run`. */
  short: [
    { ...common, displayName: 'unit', testMatch: ['<rootDir>/tests/unit/**/*.test.ts'] },
    /** Nothing of it is real but the code under test, so it needs neither root nor time. */
    { ...common, displayName: 'protocol', testMatch: ['<rootDir>/tests/protocol/**/*.test.ts'] },
    { ...withCluster, displayName: 'cluster', testMatch: ['<rootDir>/tests/cluster/*.test.ts'] },
    /** Attacks. `.ci/run` runs them, `npm test` does not. */
    { ...withCluster, displayName: 'security', testMatch: ['<rootDir>/tests/cluster/security/*.test.ts'] },
    /** Nothing else may run meanwhile. */
    { ...withCluster, displayName: 'performance', testMatch: ['<rootDir>/tests/performance/**/*.test.ts'] },
  ],
  /** `npm run test:long`: most of an hour. */
  long: [{ ...withCluster, displayName: 'long', testMatch: ['<rootDir>/tests/long/**/*.test.ts'] }],
  /** `npm run test:vm`: minutes of emulation. */
  vm: [{ ...withCluster, displayName: 'vm', testMatch: ['<rootDir>/tests/vm/**/*.test.ts'] }],
} satisfies Record<string, Config['projects']>

/** The tests that have a cluster share it, so whatever runs them passes --runInBand: see the scripts in package.json. */
const config: Config = {
  // Starting Node.js takes a second or more where the machine has other work.
  testTimeout: 30_000,
  projects: process.env['STINT_TEST_MACHINE'] === 'vm' ? suites.vm : process.env['STINT_TEST_SUITE'] === 'long' ? suites.long : suites.short,
}

export default config
