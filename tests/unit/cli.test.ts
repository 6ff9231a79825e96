import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { execa } from 'execa'
import { bytes, clock, seconds, table, waitStatus } from '../../daemon/cli/format.ts'
import { call } from '../../daemon/cli/client.ts'
import { resolveConfig } from '../../daemon/core/config.ts'
import { errorKinds } from '../../daemon/core/errors.ts'
import { useApi } from '../support/api.ts'
import type { TestContext } from '../support/context.ts'
import { refusal, said } from '../support/errors.ts'

describe('for people', () => {
  test('a table has columns as wide as their widest cell and no blanks at the end', () => {
    expect(table(['A', 'LONG', 'C'], [['xyz', '', 'c'], ['', 'y', '']])).toBe('A    LONG  C\nxyz        c\n     y')
    expect(table(['A', 'B'], [])).toBe('A  B')
  })

  test.each([[null, '-'], [0, '0 B'], [999, '999 B'], [1000, '1.0 kB'], [123_456, '123 kB'], [999_999_999, '1000 MB'], [1e9, '1.0 GB'], [1.5e15, '1500 TB']])('%j bytes are %s', (value, expected) => {
    expect(bytes(value)).toBe(expected)
  })

  test.each([[null, '-'], [0, '0.00 s'], [1.005, '1.00 s'], [61.5, '61.50 s']])('%j seconds are %s', (value, expected) => {
    expect(seconds(value)).toBe(expected)
  })

  test.each([[null, '-'], [0, 'exit 0'], [0x0300, 'exit 3'], [15, 'signal 15'], [0x8b, 'signal 11'], [0xff00, 'exit 255']])('the wait status %j is %s', (value, expected) => {
    expect(waitStatus(value)).toBe(expected)
  })

  test('an instant is local time of the day', () => {
    expect(clock(new Date(2026, 0, 1, 9, 5, 7).getTime())).toBe('09:05:07')
    expect(clock(null)).toBe('-')
  })
})

interface Ended { readonly exitCode: number | undefined; readonly stdout: string; readonly stderr: string }

let made: TestContext
let socket: string

const api = useApi((served) => {
  served.addRun(6, { history: JSON.stringify([{ node: 'n1', startedAt: 0, endedAt: 1000, checkpoint: 1, trigger: 'walltime', bytes: 5e6, seconds: 1.5 }]) })
  const { id } = served.context.catalogue.checkpoints.begin('run-6', 2, 'request', true, 1000)
  served.context.catalogue.checkpoints.giveUp(id, 'E_STORE_FULL', 'the store is full')
  served.context.catalogue.runs.setError('run-6', 'E_STORE_FULL', 'the store is full. Free space.')
  writeFileSync(join(served.folder, 'slurm'), '')
})
beforeAll(() => { ({ made, socketPath: socket } = api()) })

async function stint(...args: string[]): Promise<Ended> {
  const result = await execa(process.execPath, [join(import.meta.dirname, '../../daemon/cli/main.ts'), ...args], { reject: false, stdin: 'ignore' })
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr }
}

describe('stint', () => {
  test('status shows a table, a job in detail, and both as JSON before or after the verb', async () => {
    const [all, one, before, after] = await Promise.all([
      stint('--socket', socket, 'status'), stint('--socket', socket, 'status', '6'), stint('--json', '--socket', socket, 'status', '5'), stint('status', '5', '--json', '--socket', socket),
    ])
    expect(all.stdout).toMatch(/^JOB +USER +STATE +NODE .*\n6 +alice +unknown .*\n5 +alice +running +n1 /)
    expect(one.stdout).toMatch(/Last refusal: the store is full\. Free space\.\n\nStints before this one\nSTINT .*\n1 +n1 .* walltime +1 +5\.0 MB +1\.50 s\n\nCheckpoints made on this node\nNO .*\n2 +request +aborted .* the store is full$/)
    expect(JSON.parse(before.stdout)).toMatchObject({ job: 5, state: 'running' })
    expect(after).toEqual(before)
    for (const { exitCode, stderr } of [all, one, before, after]) expect([exitCode, stderr]).toEqual([0, ''])
  })

  test('images says when there are none', async () => {
    expect(await stint('--socket', socket, 'images')).toEqual({ exitCode: 0, stdout: 'No images.', stderr: '' })
  })

  test('doctor ends with 1 when it finds a fault', async () => {
    const { exitCode, stdout } = await stint('--socket', socket, 'doctor')
    expect([exitCode, stdout]).toEqual([1, expect.stringMatching(/^fault +helpers +missing: stint-init/m)])
  })

  test('ends with the exit code of the error, tells code, message and hint, and as JSON for programs', async () => {
    const [plain, json] = await Promise.all([stint('--socket', socket, 'checkpoint', '7'), stint('--json', '--socket', socket, 'check', '7')])
    expect(plain).toEqual({ exitCode: errorKinds.E_NO_SUCH_JOB.exit, stdout: '', stderr: `stint: E_NO_SUCH_JOB: Slurm knows no job 7\n  ${errorKinds.E_NO_SUCH_JOB.hint}` })
    expect([json.exitCode, JSON.parse(json.stdout)]).toEqual([3, { code: 'E_NO_SUCH_JOB', message: 'Slurm knows no job 7', hint: errorKinds.E_NO_SUCH_JOB.hint }])
  })

  test('says what to do when no daemon answers', async () => {
    const { exitCode, stderr } = await stint('--socket', join(made.folder, 'none.sock'), 'status')
    expect([exitCode, stderr]).toEqual([69, `stint: E_DAEMON_ABSENT: stintd does not answer at ${made.folder}/none.sock\n  ${errorKinds.E_DAEMON_ABSENT.hint}`])
  })

  test('answers a wrong command line with exit code 2 and nothing on standard output', async () => {
    const wrong = [['frob'], ['status', 'x'], ['check'], ['check', '1.5'], ['check', '0'], ['status', '1', '2'], ['status', '--frob'], ['config'], []]
    const ended = await Promise.all(wrong.map(async (args) => ({ args, ...await stint(...args) })))
    for (const { args, exitCode, stdout, stderr } of ended) {
      expect([args, exitCode, stdout]).toEqual([args, 2, ''])
      expect(stderr).toMatch(/^(stint: E_BAD_REQUEST: |Usage: stint )/)
      expect(stderr).not.toContain('    at ')
    }
  })

  test('--help and the help of a verb are no errors', async () => {
    const [all, one] = await Promise.all([stint('--help'), stint('checkpoint', '--help')])
    expect([all.exitCode, all.stdout]).toEqual([0, expect.stringMatching(/status[^]*checkpoint[^]*config/)])
    expect([one.exitCode, one.stdout]).toEqual([0, expect.stringContaining('--keep-running')])
  })

  test('config show prints the file with its defaults, and fails where stintd would refuse to start', async () => {
    const file = join(made.folder, 'stint.toml')
    writeFileSync(file, '[store]\npath = "/shared/x"\n')
    const wrong = join(made.folder, 'wrong.toml')
    writeFileSync(wrong, '[store]\npaht = "/shared/x"\n')
    const [shown, json, refused] = await Promise.all([stint('config', 'show', '--config', file), stint('config', 'show', '--json', '--config', file), stint('config', 'show', '--config', wrong)])
    expect([shown.exitCode, shown.stdout]).toEqual([0, expect.stringContaining('\npath = "/shared/x"\n# sealed checkpoints')])
    expect(JSON.parse(json.stdout)).toEqual(resolveConfig({ store: { path: '/shared/x' } }))
    expect([refused.exitCode, refused.stderr]).toEqual([78, `stint: E_BAD_CONFIG: unknown key store.paht; did you mean store.path?\n  ${errorKinds.E_BAD_CONFIG.hint}`])
  })

  test('ends quietly when its reader has gone, and not quietly when the disk is full', async () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../../daemon/cli/main.ts'), 'config', 'show'], { stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.destroy()
    const [exit, stderr] = await Promise.all([once(child, 'exit'), text(child.stderr)])
    expect([exit[0], stderr]).toEqual([0, ''])
    const device = openSync('/dev/full', 'w')
    const full = spawn(process.execPath, [join(import.meta.dirname, '../../daemon/cli/main.ts'), 'config', 'show'], { stdio: ['ignore', device, 'pipe'] })
    closeSync(device)
    if (full.stderr === null) throw new Error('no standard error')
    const [fullExit, complaint] = await Promise.all([once(full, 'exit'), text(full.stderr)])
    expect([fullExit[0], complaint]).toEqual([70, expect.stringMatching(/^stint: E_INTERNAL: ENOSPC/)])
  })
})

describe('a daemon that answers badly', () => {
  let folder: string
  let server: Server
  let reply: (socket: Socket) => void

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'stint-bad-'))
    server = createServer((connection) => {
      connection.on('error', () => undefined)
      connection.once('data', () => { reply(connection) })
    }).listen(join(folder, 's.sock'))
    await once(server, 'listening')
  })
  afterAll(() => {
    server.close()
    rmSync(folder, { recursive: true })
  })

  const head = (status: number, length: number): string => `HTTP/1.1 ${status} X\r\nContent-Length: ${length}\r\n\r\n`

  test.each([
    ['hangs up at once', '', /^E_DAEMON_ABSENT: stintd does not answer at /],
    ['is killed in the middle of its answer', `${head(200, 100)}[{"job":`, /^E_DAEMON_ABSENT: /],
    ['is killed in the middle of a refusal', `${head(409, 100)}{"code":`, /^E_DAEMON_ABSENT: /],
    ['answers no JSON', `${head(200, 2)}<>`, /^E_INTERNAL: the daemon answered no JSON: <>$/],
    ['refuses without a code', `${head(500, 4)}oops`, /^E_INTERNAL: the daemon answered 500: oops$/],
    ['refuses with a code of another version', `${head(409, 34)}{"code":"E_NEW","message":"later"}`, /^E_INTERNAL: the daemon answered 409: /],
    ['refuses with no code of anybody', `${head(409, 19)}{"code":"toString"}`, /^E_INTERNAL: the daemon answered 409: /],
    ['answers null', `${head(500, 4)}null`, /^E_INTERNAL: the daemon answered 500: null$/],
  ])('and %s is told so', async (_, answer, expected) => {
    reply = (connection) => { connection.end(answer) }
    expect(await said(() => call(join(folder, 's.sock'), 'GET', '/v1/runs'))).toMatch(expected)
  })

  test('and knows its error is told with its own hint', async () => {
    const body = JSON.stringify({ code: 'E_NOT_RUNNING', message: 'there', hint: 'Go there.' })
    reply = (connection) => { connection.end(head(409, body.length) + body) }
    const error = await refusal(() => call(join(folder, 's.sock'), 'GET', '/v1/runs'))
    expect([error.code, error.message, error.hint]).toEqual(['E_NOT_RUNNING', 'there', 'Go there.'])
  })

  test.each([['in no directory', 'none/s.sock'], ['too long', 'x'.repeat(200)], ['a plain file', 'plain-file']])('or a socket path that is %s is an absent daemon', async (_, name) => {
    writeFileSync(join(folder, 'plain-file'), '')
    expect(await said(() => call(join(folder, name), 'GET', '/v1/runs'))).toContain('E_DAEMON_ABSENT')
  })
})

test('the snippet for stint.toml is what stint config show reads', async () => {
  const { exitCode, stdout } = await stint('config', 'show', '--json', '--config', join(import.meta.dirname, '../../slurm-scripts/snippets/stint.toml'))
  expect([exitCode, JSON.parse(stdout)]).toEqual([0, resolveConfig({})])
  expect(readFileSync(join(import.meta.dirname, '../../slurm-scripts/snippets/stint.toml'), 'utf8')).toContain('/etc/stint/stint.toml')
})
