import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildHelpers, soon } from '../support/helpers.ts'

/** A guard whose daemon does not care for it any more, with a stand-in for the daemon: it must put the job back in time. */

const [killedMs, restoreMs, steadyMs] = [1500, 2000, 600]
const program = join(import.meta.dirname, '../fixtures/programs/lone-guard.py')

let helpers: string
let folder: string
let server: Server | undefined
let clients: Socket[]
let heard: string
let guard: ReturnType<typeof start> | undefined

beforeAll(async () => {
  helpers = await buildHelpers(`-DRESCUE_KILLED_MS=${killedMs}`, `-DRESCUE_RESTORE_MS=${restoreMs}`, '-DRESCUE_AGAIN_MS=60000', `-DSTEADY_MS=${steadyMs}`)
}, 120_000)
afterAll(() => { rmSync(helpers, { recursive: true }) })
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stint-rescue-'))
  writeFileSync(join(folder, 'scontrol'), `#!/bin/sh\necho "$@" >>'${folder}/asked'\n`, { mode: 0o755 })
  writeFileSync(join(folder, 'asked'), '')
})
afterEach(async () => {
  guard?.kill('SIGKILL')
  await guard
  await leave()
  rmSync(folder, { recursive: true })
})

const socketPath = (): string => join(folder, 'sandbox.sock')
const asked = (): string => readFileSync(join(folder, 'asked'), 'utf8')

/** A daemon that does this with everyone who says `attach`. */
async function listen(onAttach: (client: Socket) => void): Promise<void> {
  [clients, heard] = [[], '']
  server = createServer((client) => {
    clients.push(client)
    client.on('error', () => { client.destroy() })
    client.on('data', (data: Buffer) => {
      heard += data.toString()
      if (data.toString().startsWith('attach ')) onAttach(client)
    })
  })
  const listening = server
  await new Promise<void>((done) => listening.listen(socketPath(), done))
}

async function leave(): Promise<void> {
  const listening = server
  server = undefined
  if (listening === undefined) return
  for (const client of clients) client.destroy()
  await new Promise((done) => listening.close(done))
}

function start(mode: string, words: string[]) {
  return execa('python3', [program, join(helpers, 'stint-init'), socketPath(), mode, `scontrol=${join(folder, 'scontrol')}`, ...words], { reject: false })
}

/** A guard whose first daemon has accepted it and is lost now. @returns when it was lost */
async function orphan(mode: string, words: string[] = ['attached=1']): Promise<number> {
  await listen(() => undefined)
  guard = start(mode, words)
  await soon('the guard is connected', () => clients.length === 1 && (mode !== 'killed' || heard.includes('killed')))
  await leave()
  return Date.now()
}

/** It asks Slurm for this, once, and not before its time. */
async function expectAsked(what: string, lost: number, after: number): Promise<void> {
  await soon(`scontrol ${what}`, () => asked() !== '')
  expect(Date.now() - lost).toBeGreaterThan(after - 200)
  expect(Date.now() - lost).toBeLessThan(after + 2500)
  expect(asked()).toBe(`${what}\n`)
}

const daemons: Record<string, (client: Socket) => void> = {
  'accepts the connection and refuses the guard': (client) => { client.destroy() },
  'accepts the connection and says something else': (client) => { client.write('say text=wait\n', () => client.destroy()) },
  'accepts the connection and hangs': () => undefined,
  'accepts the guard and ends, again and again': (client) => { client.write('attached\n', () => { setTimeout(() => client.destroy(), 300) }) },
}

describe('a job whose daemon does not come back is put back by the guard', () => {
  test.each(Object.keys(daemons))('a saved one, with a daemon that %s', async (kind) => {
    const lost = await orphan('killed')
    await listen(daemons[kind] ?? (() => undefined))
    await expectAsked('requeue 7', lost, killedMs)
  })

  test.each(Object.keys(daemons))('one that is being restored is held, with a daemon that %s', async (kind) => {
    const lost = await orphan('restore')
    await listen(daemons[kind] ?? (() => undefined))
    await expectAsked('requeuehold 7', lost, restoreMs)
  })

  test('without any daemon', async () => {
    await expectAsked('requeue 7', await orphan('killed'), killedMs)
  })

  test("of an array only the task: the id of its last one is the whole array's", async () => {
    await expectAsked('requeue 7_3', await orphan('killed', ['attached=1', 'name=7_3']), killedMs)
  })

  test('of several nodes only while it runs: Slurm ticket 23768', async () => {
    await expectAsked('requeue incomplete 7', await orphan('killed', ['attached=1', 'nodes=2']), killedMs)
  })
})

describe('a job is left to the daemon', () => {
  test('that has accepted its guard', async () => {
    await orphan('killed')
    await listen((client) => { client.write('attached\n') })
    await sleep(killedMs + 1500)
    expect(asked()).toBe('')
    expect(heard).toMatch(/^attach version=1 mode=start job=7 .*state=killed$/m)
  })

  test('of an older version, which accepts in silence', async () => {
    await orphan('killed', [])
    await listen(() => undefined)
    await sleep(killedMs + 1500)
    expect(asked()).toBe('')
  })

  test('and when that is lost after a while, the clock begins anew', async () => {
    await orphan('killed')
    await listen((client) => { client.write('attached\n') })
    await soon('it is back', () => heard.includes('attach'))
    await sleep(steadyMs + 1500)
    await leave()
    await expectAsked('requeue 7', Date.now(), killedMs)
  })

  test('a job that runs is nobody\'s to put back', async () => {
    await orphan('start')
    await listen((client) => { client.destroy() })
    await sleep(killedMs + 1500)
    expect(asked()).toBe('')
  })
})
