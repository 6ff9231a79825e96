import { describe, expect, test } from '@jest/globals'
import { join } from 'node:path'
import { execa } from 'execa'

/** Programs of tests/ that people start themselves: whatever they import must load without jest. */

describe('started outside jest', () => {
  test.each(['tests/demo/demo.ts', 'tests/bench/coordination.ts'])('%s loads, and refuses an option it does not know', async (program) => {
    const { exitCode, stderr } = await execa(process.execPath, [join(import.meta.dirname, '..', '..', program), '--unknown'], { reject: false })
    expect(exitCode).toBe(1)
    expect(stderr).toContain("Unknown option '--unknown'")
  })
})

describe('a test script of package.json with a path', () => {
  test.each([['unit', 'criu-log', 'tests/unit/criu-log.test.ts'], ['cluster', 'faults', 'tests/cluster/faults.test.ts'], ['long', 'mpi-faults', 'tests/long/mpi-faults.test.ts'], ['vm', 'walltime', 'tests/vm/walltime.test.ts']])('npm run test:%s -- %s runs that file alone', async (suite, path, file) => {
    const top = join(import.meta.dirname, '..', '..')
    const { stdout } = await execa('npm', ['run', '--silent', `test:${suite}`, '--', path, '--listTests'], { cwd: top, env: { STINT_TEST_SUITE: undefined, STINT_TEST_MACHINE: undefined }, stderr: 'ignore' })
    expect(stdout.split('\n').filter((line) => line.endsWith('.ts'))).toEqual([join(top, file)])
  })
})
