import { createServer } from 'node:http'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { Context } from '../actions/context.ts'
import { errorKinds, asStintError, StintError } from '../core/errors.ts'
import { listenAt } from '../linux/unix-socket.ts'
import { peerCredentials } from '../linux/peer.ts'
import { addDoctorRoutes } from './routes/doctor.ts'
import { addImageRoutes } from './routes/images.ts'
import { addRunRoutes } from './routes/runs.ts'

/** The kernel's word on who asks. */
export function callerUid(request: FastifyRequest): number {
  return peerCredentials(request.raw.socket).uid
}

/** @throws StintError E_FORBIDDEN unless the caller owns it or is root */
export function assertMayAct(request: FastifyRequest, ownerUid: number): void {
  const uid = callerUid(request)
  if (uid !== 0 && uid !== ownerUid) throw new StintError('E_FORBIDDEN', 'this job belongs to another user')
}

export type Api = ReturnType<typeof makeServer>

function makeServer(context: Context) {
  return Fastify({
    loggerInstance: context.log,
    disableRequestLogging: true,
    bodyLimit: 64 * 1024,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: true } },
    serverFactory: (handler) => createServer(handler),
  }).withTypeProvider<TypeBoxTypeProvider>()
}

function addErrorHandling(api: Api): void {
  api.setErrorHandler((cause, request, reply) => {
    const invalid = typeof cause === 'object' && cause !== null && ('validation' in cause || ('statusCode' in cause && cause.statusCode === 400))
    const error = invalid ? new StintError('E_BAD_REQUEST', String((cause as { message?: unknown }).message)) : asStintError(cause)
    if (error.code === 'E_INTERNAL') request.log.error({ err: cause }, 'request failed')
    void reply.status(errorKinds[error.code].http).send({ code: error.code, message: error.message, hint: error.hint })
  })
  api.setNotFoundHandler((request, reply) => {
    void reply.status(404).send({ code: 'E_BAD_REQUEST', message: `there is no ${request.method} ${request.url}`, hint: errorKinds.E_BAD_REQUEST.hint })
  })
}

/** The REST API on its Unix socket. */
export async function serveApi(context: Context): Promise<AsyncDisposable> {
  const api = makeServer(context)
  addErrorHandling(api)
  addRunRoutes(api, context)
  addImageRoutes(api, context)
  addDoctorRoutes(api, context)
  await api.ready()
  const listening = await listenAt((api as unknown as FastifyInstance).server, context.config.paths.socket, 0o666)
  return {
    [Symbol.asyncDispose]: async () => {
      api.server.closeAllConnections()
      await listening[Symbol.asyncDispose]()
      await api.close()
    },
  }
}
