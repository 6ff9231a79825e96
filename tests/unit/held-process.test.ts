import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'

test('a process whose number another one has got is neither read, entered nor killed', () => {
  const program = join(import.meta.dirname, '../fixtures/programs/reuse-pid.ts')
  // Alone in its PID namespace: nobody else takes the number.
  const text = execFileSync('unshare', ['--pid', '--fork', '--mount-proc', '--kill-child', process.execPath, program], { encoding: 'utf8', timeout: 25_000 })
  expect(JSON.parse(text)).toEqual({
    reused: true,
    before: { alive: true, inside: 1, nodes: false, entered: 2 },
    after: { alive: false, stat: 'nothing', namespace: 'nothing', enter: 'E_NOT_RUNNING', inside: 0, processes: 0, signal: 'nothing', killed: '0', network: true },
    found: { byStartTime: false, enterNodes: 'E_NOT_VERIFIED', killNodes: 'E_NOT_VERIFIED', optional: [] },
    victimLives: true, disposed: '/proc/0', boot: true,
  })
})
