import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { Compile } from 'typebox/compile'
import type { Context } from '../../daemon/context.ts'
import { isErrorCode, StintError } from '../../daemon/core/errors.ts'
import { makeRestApi } from '../../daemon/http/rest-api.ts'
import { serve } from '../../daemon/http/server.ts'
import { alice, makeContext, manifest } from '../support/context.ts'

/** Requests to the REST API, made of its own description: as it wants them, nearly so, and not at all. */

interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
}
interface Operation {
  readonly operationId: string
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: Schema } } }
  readonly responses: Readonly<Record<string, { readonly content: { readonly 'application/json': { readonly schema: object } } }>>
}
export interface Description { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> }

export interface RestRequest {
  readonly uid: number
  readonly operationId: string
  readonly method: string
  readonly path: string
  readonly type: string
  readonly body: string | undefined
}

/** A value as a schema wants it, of the kinds that the description has. */
function fitting(schema: Schema): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case 'boolean': return fc.boolean()
    case 'integer': return fc.oneof(fc.constantFrom(5, 6, 7), fc.integer({ min: schema.minimum ?? 0, max: schema.maximum ?? 2 ** 31 }))
    case 'string': return schema.pattern === undefined ? fc.oneof(fc.constant('n1'), fc.string({ unit: 'grapheme', minLength: schema.minLength ?? 0, maxLength: Math.min(schema.maxLength ?? 50, 50) })) : fc.stringMatching(new RegExp(schema.pattern))
    case 'object': return fc.record(Object.fromEntries(Object.entries(schema.properties ?? {}).map(([key, inner]) => [key, fitting(inner)])), { requiredKeys: [] })
    default: throw new Error(`the description has a schema of a kind that this file does not know: ${JSON.stringify(schema)}`)
  }
}

const oddTexts = fc.constantFrom('', '0', '-1', '1.5', '1e3', '0x10', '%00', '%0a', '%zz', '%c3%28', '..', '5%2f..', '4294967296', '99999999999999999999', 'x'.repeat(300), 'null', '%F0%9F%99%82', '5,6', '__proto__')
const inUrl = fc.oneof(oddTexts, fc.string({ maxLength: 20 }).map(encodeURIComponent))
const oddBodies = fc.oneof(
  fc.constantFrom('', '{', 'null', '[]', '""', '{"keepRunning":null}', '{"dryRun":"true"}', '{"__proto__":{}}', '{"constructor":1}', '\ufeff{}', '{"a":1}', '[[[[[[', '1e999', '"\\ud800"', '['.repeat(20_000), `"${'x'.repeat(70_000)}"`),
  fc.json({ maxDepth: 3 }), fc.string({ maxLength: 40 }),
)
const types = fc.oneof({ weight: 8, arbitrary: fc.constant('application/json') }, { weight: 1, arbitrary: fc.constantFrom('text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-7', '', 'x') })
const users = [0, alice, 65_534] as const

/** One time in four what is `odd`. */
const mostly = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>): fc.Arbitrary<T> => fc.oneof({ weight: 3, arbitrary: usual }, { weight: 1, arbitrary: odd })

function requestsFor(path: string, method: string, operation: Operation): fc.Arbitrary<RestRequest> {
  const values = (where: string): fc.Arbitrary<Record<string, string | undefined>> => fc.record(Object.fromEntries((operation.parameters ?? []).filter((one) => one.in === where)
    .map(({ name, schema }) => [name, mostly(fitting(schema).map((value) => encodeURIComponent(String(value as string | number))), inUrl)])), where === 'query' ? { requiredKeys: [] } : {})
  const query = mostly(values('query').map((given) => new URLSearchParams(given as Record<string, string>).toString()), fc.constantFrom('x=1', 'job=5&job=6', 'job', '&', '=', 'job[]=5', '__proto__=1', '%00=1', `job=${'5'.repeat(3000)}`))
  // The examination itself starts dozens of programs: here only what is refused before.
  const asked = operation.operationId === 'examineNode' ? query.filter((given) => /^[a-z_%0]+(\[\])?=/.test(given)) : query
  const schema = operation.requestBody?.content['application/json'].schema
  const body = schema === undefined ? fc.constant(undefined) : mostly(fitting(schema).map((value) => JSON.stringify(value)), oddBodies)
  return fc.record({ uid: fc.constantFrom(...users), in: values('path'), query: asked, body, type: types, method: fc.oneof({ weight: 20, arbitrary: fc.constant(method.toUpperCase()) }, { weight: 1, arbitrary: fc.constantFrom('PUT', 'DELETE', 'PATCH', 'OPTIONS') }) })
    .map(({ uid, in: inPath, query: search, body: content, type, method: verb }) => ({
      uid, operationId: operation.operationId, method: verb, type, body: content, path: `${path.replace(/\{(\w+)\}/g, (_, name: string) => inPath[name] ?? '')}${search === '' ? '' : `?${search}`}`,
    }))
}

export function requests(description: Description): fc.Arbitrary<RestRequest> {
  return fc.oneof(...Object.entries(description.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => requestsFor(path, method, operation))))
}

/** Stands in for what would start programs or reach other nodes: all of it is refused, with a code. */
function refusing<T extends object>(code: 'E_SLURM' | 'E_PEER', known: Partial<T> = {}): T {
  return new Proxy(known as T, { get: (given, name) => (given as Record<PropertyKey, unknown>)[name] ?? (() => Promise.reject(new StintError(code, 'not in this test'))) })
}

export interface RestUnderTest extends AsyncDisposable {
  readonly description: Description
  /** @throws Error when an answer is not as the description has it, or is a fault of the daemon's */
  readonly check: (sent: RestRequest) => Promise<void>
}

/** A served API over a real catalogue and store: runs of alice's and root's, an image, and a sandbox that is busy. Needs root, to connect as other users. */
export async function restUnderTest(): Promise<RestUnderTest> {
  const made = makeContext()
  made.addSandbox(5).busy = true
  made.addRun(6, { uid: 0, user: 'root' })
  made.addRun(7)
  const context: Context = {
    ...made.context,
    scontrol: refusing<Context['scontrol']>('E_SLURM'), cluster: refusing<Context['cluster']>('E_PEER'),
    store: Object.assign(made.context.store, { list: (job?: number) => (job === undefined || job === 5 ? [{ directory: '/d', manifest }] : []) }),
  }
  const api = await makeRestApi(context)
  const serving = await serve(api, context.config.paths.socket, 0o666)
  const description = api.swagger() as unknown as Description
  const shapes = new Map(Object.values(description.paths).flatMap((methods) => Object.values(methods)).map(({ operationId, responses }) => (
    [operationId, new Map(Object.entries(responses).map(([status, { content }]) => [status, Compile(content['application/json'].schema as Parameters<typeof Compile>[0])]))] as const
  )))
  const agents = new Map(users.map((uid) => [uid as number, new Agent({ keepAlive: true, maxSockets: 4 })]))
  for (const [uid, agent] of agents) {
    agent.createConnection = () => {
      // The kernel notes who connects at connect(2), which a Unix socket does at once.
      process.seteuid?.(uid)
      try {
        return connect(context.config.paths.socket)
      } finally {
        process.seteuid?.(0)
      }
    }
  }
  const check = async ({ uid, operationId, method, path, type, body }: RestRequest): Promise<void> => {
    const headers = body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }
    const outgoing = request({ agent: agents.get(uid) ?? new Agent(), method, path, headers })
    outgoing.end(body)
    const [response] = await once(outgoing, 'response') as [NodeJS.ReadableStream & { statusCode: number }]
    const status = response.statusCode
    const answer: unknown = JSON.parse(await text(response))
    const kind = status < 400 ? String(status) : `${Math.floor(status / 100)}XX`
    const shape = shapes.get(operationId)?.get(kind)
    if (shape === undefined) throw new Error(`${status} is no documented answer to ${method} ${path}`)
    if (!shape.Check(answer)) throw new Error(`the answer ${status} has not its documented shape: ${JSON.stringify(answer)}`)
    if (status === 500) throw new Error(`a fault of the daemon: ${JSON.stringify(answer)}`)
    if (status >= 400 && !isErrorCode((answer as { code: string }).code)) throw new Error(`an unknown code: ${JSON.stringify(answer)}`)
  }
  return {
    description, check,
    [Symbol.asyncDispose]: async () => {
      for (const agent of agents.values()) agent.destroy()
      await serving[Symbol.asyncDispose]()
      await made[Symbol.asyncDispose]()
    },
  }
}
