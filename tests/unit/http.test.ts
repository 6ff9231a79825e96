import { beforeAll, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { readFileSync, lstatSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { useApi } from '../support/api.ts'
import { ask, askAs, refused, type Answer } from '../support/ask.ts'
import { alice, type TestContext } from '../support/context.ts'

/** The REST API on a real Unix socket; other users are processes with other uids. */

interface Operation { readonly operationId: string; readonly 'x-permission': 'anyone' | 'own' | 'owner' }

const openapi = JSON.parse(readFileSync(join(import.meta.dirname, '../../docs/reference/openapi.json'), 'utf8')) as { paths: Record<string, Record<string, Operation>> }
const operations = Object.entries(openapi.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({
  name: `${method.toUpperCase()} ${path}`, method: method.toUpperCase(), path: path.replace('{job}', '5'), permission: operation['x-permission'],
})))
const nobody = 65534

let made: TestContext
let socketPath: string

const api = useApi((served) => {
  served.addRun(6, { uid: 0, user: 'root' })
})
beforeAll(() => { ({ made, socketPath } = api()) })

const call = async (method: string, path: string, body?: string, type?: string): Promise<Answer> => ask(socketPath, method, path, body, type)
const callAs = async (uid: number, method: string, path: string, body?: string): Promise<Answer> => askAs(uid, socketPath, method, path, body)

describe('the API', () => {
  test('listens for every user on its socket', () => {
    expect(lstatSync(socketPath).mode & 0o777).toBe(0o666)
  })

  test('serves the description that is committed', async () => {
    expect((await call('GET', '/v1/openapi.json')).body).toEqual(openapi)
  })

  test('has an id and a permission for every operation, each id once', () => {
    const all = Object.values(openapi.paths).flatMap((methods) => Object.values(methods))
    expect(new Set(all.map((o) => o.operationId)).size).toBe(all.length)
    expect(all.filter((o) => !['anyone', 'own', 'owner', 'root'].includes(o['x-permission']))).toEqual([])
  })

  test.each(['/', '/v1', '/v1/run', '/v2/runs', '/v1/runs/5/nothing', '/%00', '/../etc/passwd'])('knows no %s', async (path) => {
    expect(await call('GET', path)).toEqual(refused('E_NO_SUCH_ROUTE', `there is no GET ${path}`))
  })

  test.each(['/v1/runs/%zz', '/v1/runs/%c3%28/check?x=1', '/%'])('refuses the path %s, which is none, as it refuses the rest', async (path) => {
    expect(await call('GET', path)).toEqual(refused('E_BAD_REQUEST', expect.stringContaining('is not a valid url component')))
  })

  test('knows no other methods of its paths', async () => {
    expect(await call('DELETE', '/v1/runs/5')).toEqual(refused('E_NO_SUCH_ROUTE'))
    expect(await call('POST', '/v1/runs', '{}')).toEqual(refused('E_NO_SUCH_ROUTE'))
  })
})

describe('a request', () => {
  test.each(operations)('$name with an unknown key in its query is refused', async ({ method, path }) => {
    expect(await call(method, `${path}?jbo=5`, method === 'POST' ? '{}' : undefined)).toEqual(refused('E_BAD_REQUEST', expect.stringContaining('unknown key "jbo"; known: ')))
  })

  test.each(['abc', '0', '-1', '1.5', '1e3', '0x10', '%205', '4294967296', '99999999999999999999', '5;6', '5%00'])('for the job %s is refused', async (job) => {
    expect(await call('GET', `/v1/runs/${job}`)).toEqual(refused('E_BAD_REQUEST', expect.stringMatching(/^params\/job /)))
    expect(await call('GET', `/v1/images?job=${job.replace(';', '%3b')}`)).toEqual(refused('E_BAD_REQUEST', expect.stringMatching(/^querystring\/job /)))
  })

  test('with a key twice is refused', async () => {
    expect(await call('GET', '/v1/images?job=5&job=6')).toEqual(refused('E_BAD_REQUEST'))
  })

  test.each([
    ['nothing', ''], ['no JSON', '{'], ['a list', '[]'], ['null', 'null'], ['an unknown key', '{"keepRuning":true}'], ['null as a value', '{"keepRunning":null}'],
    ['a text as a value', '{"keepRunning":"true"}'], ['a number as a value', '{"keepRunning":0}'], ['a prototype', '{"__proto__":{"keepRunning":true}}'], ['too much', `"${'x'.repeat(70_000)}"`],
  ])('to save with %s as its body is refused before anything is done', async (_, body) => {
    expect(await call('POST', '/v1/runs/5/checkpoints', body)).toEqual(refused('E_BAD_REQUEST'))
    expect(made.context.catalogue.checkpoints.ofRun('run-5')).toEqual([])
  })

  test('with a body of another kind is refused', async () => {
    expect(await call('POST', '/v1/runs/5/checkpoints', 'keepRunning=true', 'application/x-www-form-urlencoded')).toEqual(refused('E_BAD_REQUEST'))
  })

  test.each(['\0\0\0\0', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n'])('that is no HTTP is answered like any other bad one: %j', async (garbage) => {
    const socket = connect(socketPath)
    socket.write(garbage)
    const [head, body] = (await text(socket)).split('\r\n\r\n')
    expect(head).toMatch(/^HTTP\/1\.1 400 /)
    expect(JSON.parse(body ?? '')).toMatchObject({ code: 'E_BAD_REQUEST' })
  })

  test('that is garbage or breaks off harms nobody else', async () => {
    for (const garbage of ['\0\0\0\0', 'GET', 'POST /v1/runs/5/checkpoints HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"keep', 'x'.repeat(100_000)]) {
      const socket = connect(socketPath)
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write(garbage)
      await new Promise((done) => setTimeout(done, 5))
      socket.destroy()
    }
    expect((await call('GET', '/v1/runs')).status).toBe(200)
    expect(made.context.catalogue.checkpoints.ofRun('run-5')).toEqual([])
  })
})

describe('the kernel\'s word on who asks', () => {
  test.each(operations.filter((o) => o.permission === 'owner'))('$name is refused to a stranger, and that is logged with the reason', async ({ method, path }) => {
    made.logged.length = 0
    expect(await callAs(nobody, method, path, '{}')).toEqual(refused('E_FORBIDDEN', 'this job belongs to another user'))
    expect(made.logged).toContainEqual(expect.objectContaining({ msg: 'request refused', code: 'E_FORBIDDEN', uid: nobody, url: path }))
  })

  test.each(operations.filter((o) => o.permission === 'own'))('$name shows a stranger nothing', async ({ method, path }) => {
    expect(await callAs(nobody, method, path, method === 'POST' ? '{}' : '')).toEqual({ status: 200, body: [] })
  })

  test.each(operations.filter((o) => o.permission === 'anyone'))('$name is for everybody', async ({ method, path }) => {
    expect((await callAs(nobody, method, path)).status).toBe(200)
  })

  test('lets owners see their own runs and root all', async () => {
    const jobs = ({ body }: Answer): number[] => (body as { job: number }[]).map((r) => r.job)
    expect(jobs(await callAs(alice, 'GET', '/v1/runs'))).toEqual([5])
    expect(jobs(await call('GET', '/v1/runs'))).toEqual([6, 5])
    expect(await callAs(alice, 'GET', '/v1/runs/5')).toMatchObject({ status: 200, body: { job: 5, user: 'alice', state: 'running', restarts: 1, walltimeEndsAt: 99_000, stints: [], checkpoints: [] } })
    expect((await call('GET', '/v1/runs/5')).status).toBe(200)
    expect(await callAs(alice, 'GET', '/v1/runs/6')).toEqual(refused('E_FORBIDDEN'))
  })
})

describe('a job without a sandbox here', () => {
  const slurm = (text: string): void => { writeFileSync(join(made.folder, 'slurm'), text) }
  const running = readFileSync(join(import.meta.dirname, '../fixtures/scontrol/running.txt'), 'utf8')

  test('of which nothing is known has no run', async () => {
    expect(await call('GET', '/v1/runs/999')).toEqual(refused('E_NO_SUCH_JOB', 'job 999 has no run on n1'))
  })

  test('that Slurm does not know is no job', async () => {
    slurm('')
    expect(await call('GET', '/v1/runs/1/check')).toEqual(refused('E_NO_SUCH_JOB', 'Slurm knows no job 1'))
  })

  test('that runs elsewhere is asked for there', async () => {
    slurm(running.replaceAll('=n1 ', '=n2 '))
    expect(await call('POST', '/v1/runs/1/checkpoints', '{}')).toEqual(refused('E_PEER', expect.stringMatching(/^n2: no host key/)))
  })

  test('that runs here but is not ours is not running', async () => {
    slurm(running)
    expect(await call('GET', '/v1/runs/1/check')).toEqual(refused('E_NOT_RUNNING', 'job 1 (RUNNING) has no sandbox on n1'))
  })

  test('that is being saved is busy', async () => {
    const sandbox = made.context.sandboxes.get(5)
    if (sandbox === undefined) throw new Error('no sandbox')
    sandbox.busy = true
    expect(await call('POST', '/v1/runs/5/checkpoints', '{"keepRunning":true}')).toEqual(refused('E_BUSY'))
    sandbox.busy = false
  })
})
