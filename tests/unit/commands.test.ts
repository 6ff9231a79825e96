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
