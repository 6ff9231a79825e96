import type { Config } from 'jest'
import project from '../../jest.config.ts'

const cluster = project.projects?.find((p) => typeof p === 'object' && p.displayName === 'cluster')

/** The tests of the booted machine: `npm run test:vm`. Apart from the others, for they take minutes of emulation. */
const config: Config = { ...(typeof cluster === 'object' ? cluster : {}), rootDir: '../..', displayName: 'vm', testMatch: ['<rootDir>/tests/vm/**/*.test.ts'] }

export default config
