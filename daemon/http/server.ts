import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import Fastify, { LogController, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { Context } from '../context.ts'
import { errorKinds, asStintError, isStintError, StintError } from '../core/errors.ts'
import { listenAt } from '../linux/unix-socket.ts'
import { addRequestBudgets, idleLookMilliseconds } from './admission.ts'
import type { Api } from './api.ts'
import { callerUid } from './caller.ts'
import { addOpenapi, type Description } from './openapi.ts'
import { validatorCompiler } from './validation.ts'

/** @throws StintError E_FORBIDDEN unless the caller owns it or is root */
export function assertMayAct(request: FastifyRequest, ownerUid: number): void {
  assertUserMayAct(callerUid(request), ownerUid)
}

/** The same for a user whom another daemon vouches for. */
export function assertUserMayAct(uid: number, ownerUid: number): void {
  if (uid !== 0 && uid !== ownerUid) throw new StintError('E_FORBIDDEN', 'this job belongs to another user')
}

function bodyOf(error: StintError): { code: string; message: string; hint: string } {
  return { code: error.code, message: error.message, hint: error.hint }
}

/** What is no HTTP never becomes a request; it gets the same answer as a bad one. */
function refuseNoHttp(cause: Error, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const body = JSON.stringify(bodyOf(new StintError('E_BAD_REQUEST', cause.message)))
  socket.end(`HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, () => { socket.destroy() })
}

/** Who comes: anybody, within their budget, or root alone. */
export type Audience = 'users' | 'root'

/** Fastify's own refusals (no JSON, too large, wrong media type) carry the status 4xx. */
function isBadRequest(cause: unknown): boolean {
  return typeof cause === 'object' && cause !== null && 'statusCode' in cause && typeof cause.statusCode === 'number' && cause.statusCode >= 400 && cause.statusCode < 500
}

function answer(reply: FastifyReply, error: StintError): void {
  void reply.status(errorKinds[error.code].http).send(bodyOf(error))
}

/** What all APIs of the daemon share: the log, strict validation, answers to what is no HTTP. */
function makeServer(context: Context): Api {
  return Fastify({
    loggerInstance: context.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 64 * 1024,
    exposeHeadRoutes: false,
    clientErrorHandler: (error, socket) => { refuseNoHttp(error, socket) },
    serverFactory: (handler) => createServer({ connectionsCheckingInterval: idleLookMilliseconds }, handler),
    // What its router refuses before there is a route, such as a path that is not to be decoded.
    frameworkErrors: (error, _request, reply) => { answer(reply, new StintError('E_BAD_REQUEST', error.message)) },
  }).withTypeProvider<TypeBoxTypeProvider>().setValidatorCompiler(validatorCompiler)
}

/** For the log: a caller that has hung up is nobody. */
function uidIfKnown(request: FastifyRequest): number | undefined {
  try {
    return callerUid(request)
  } catch {
    return undefined
  }
}

/** Of what a user wrote so much goes into the log. */
const loggedBytes = 200

function logRefusal(context: Context, request: FastifyRequest, error: StintError, cause: unknown): void {
  const uid = uidIfKnown(request)
  const line = context.budgets.log.line(uid ?? -1, performance.now())
  if (line === undefined) return
  if (error.code === 'E_INTERNAL') request.log.error({ err: cause, ...line }, 'request failed')
  else request.log.info({ code: error.code, reason: error.message.slice(0, loggedBytes), method: request.method, url: request.url.slice(0, loggedBytes), uid, ...line }, 'request refused')
}

function addErrorHandling(api: Api, context: Context): void {
  api.setErrorHandler((cause, request, reply) => {
    const error = !isStintError(cause) && isBadRequest(cause) ? new StintError('E_BAD_REQUEST', String((cause as { message?: unknown }).message)) : asStintError(cause)
    logRefusal(context, request, error, cause)
    answer(reply, error)
  })
  api.setNotFoundHandler((request, reply) => {
    answer(reply, new StintError('E_NO_SUCH_ROUTE', `there is no ${request.method} ${request.url}`))
  })
}

/**
 * An API of the daemon, not listening: every route of `addRoutes` is described and validated, every refusal is coded. The
 * routes touch the context when they are called, not before.
 */
export async function makeApi(context: Context, audience: Audience, description: Description, addRoutes: (api: Api) => void): Promise<Api> {
  const api = makeServer(context)
  addErrorHandling(api, context)
  if (audience === 'users') addRequestBudgets(api, context)
  await addOpenapi(api, description)
  addRoutes(api)
  await api.ready()
  return api
}

/** Serves an API on a Unix socket of this mode. */
export async function serve(api: Api, socketPath: string, mode: number): Promise<AsyncDisposable> {
  const listening = await listenAt((api as unknown as FastifyInstance).server, socketPath, mode)
  return {
    [Symbol.asyncDispose]: async () => {
      api.server.closeAllConnections()
      await listening[Symbol.asyncDispose]()
      await api.close()
    },
  }
}
