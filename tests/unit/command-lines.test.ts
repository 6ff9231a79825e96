import { expect, test } from '@jest/globals'
import { dumpArgv } from '../../plugins/engines/criu/command-lines.ts'

const programs = { criu: '/criu', nsenter: '/nsenter', setpriv: '/setpriv', unshare: '/unshare', libexecDir: '/libexec' }
const request = { pid1: { enter: (...kinds: readonly string[]) => kinds.map((kind) => `--${kind}=/held`), proc: '/held' }, uid: 1001, gid: 1001, groups: [1001], rootPid: 1000, directory: '/image', keepRunning: true, barrierSeconds: 60, limitBytes: 1000, runDirectory: '/run' }

test('CRIU opens files for their build ids, but for payloads that would notice', () => {
  expect(dumpArgv(programs, { ...request, unseen: false })).not.toContain('--file-validation')
  expect(dumpArgv(programs, { ...request, unseen: true }).join(' ')).toContain('--file-validation filesize')
})
