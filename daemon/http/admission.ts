import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { RouteHandlerMethod, RouteOptions } from 'fastify'
import { tooManyConnections, tooManyRequests, withRequestPlace } from '../core/budgets.ts'
import { errorKinds, type StintError } from '../core/errors.ts'
import { peerCredentials } from '../linux/peer.ts'
import type { Context } from '../context.ts'
import type { Api } from './api.ts'
import { callerUid } from './caller.ts'

/**
 * The REST socket's budgets for each user: connections when they are accepted, requests when their heads are read, places while
 * handlers work. Nothing waits in a queue: who is over a budget is told so at once. (@fastify/rate-limit counts requests in fixed
 * windows and knows neither connections nor places; core/budgets.ts serves the other sockets, too.)
 */

declare module 'fastify' {
  interface FastifyContextConfig {
    /** In requests of the cheapest kind; 1 where nothing is said. */
    cost?: number
  }
}

/** A connection over the budget has so long to read why. */
const refusalMilliseconds = 1000
/** So often connections are looked at that say nothing, milliseconds. */
export const idleLookMilliseconds = 1000

function responseText(error: StintError): string {
  const body = JSON.stringify({ code: error.code, message: error.message, hint: error.hint })
  return `HTTP/1.1 ${errorKinds[error.code].http} Over Budget\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

/** Says why and closes soon, whatever the other side does; nothing of what it sends is looked at. A few at once: the rest is closed without a word. */
function turnAway(context: Context, socket: Socket, uid: number, error: StintError): void {
  const place = context.budgets.refusals.take(uid)
  if (place === undefined) {
    socket.destroy()
    return
  }
  const timer = setTimeout(() => { socket.destroy() }, refusalMilliseconds)
  socket.once('close', () => {
    clearTimeout(timer)
    place[Symbol.dispose]()
  })
  socket.once('end', () => { socket.destroy() })
  socket.resume()
  socket.end(responseText(error))
}

/** Puts the budget of connections before Node's own handling of them, and bounds how long they may say nothing. */
export function admitConnections(context: Context, server: Server): void {
  const { budgets, config: { limits } } = context
  server.headersTimeout = limits.idle_seconds * 1000
  server.keepAliveTimeout = limits.idle_seconds * 1000
  server.requestTimeout = Math.max(limits.idle_seconds, limits.body_seconds) * 1000
  // Who sends requests without waiting for answers would have the loop for as many as fit into one read.
  server.maxRequestsPerSocket = 1
  server.on('dropRequest', (_request, socket: Socket) => {
    budgets.requestRate.charge(uids.get(socket) ?? 0, performance.now(), 1)
    socket.destroy()
  })
  const uids = new WeakMap<Socket, number>()
  const serve = server.listeners('connection') as ((socket: Socket) => void)[]
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    socket.on('error', () => { socket.destroy() })
    let uid: number
    try {
      uid = peerCredentials(socket).uid
    } catch {
      socket.destroy() // It has hung up.
      return
    }
    // Before anything is read: whoever is over the rate costs no more than this, and a connection without a request counts as one.
    if (!budgets.requestRate.take(uid, performance.now())) {
      turnAway(context, socket, uid, tooManyRequests(budgets, limits, uid, performance.now()))
      return
    }
    uids.set(socket, uid)
    const place = budgets.connections.take(uid)
    if (place === undefined) {
      turnAway(context, socket, uid, tooManyConnections(limits))
      return
    }
    socket.once('close', () => { place[Symbol.dispose]() })
    for (const listener of serve) listener.call(server, socket)
  })
}

/** A handler that works only while its caller has a place; it keeps the place when the caller hangs up, until its work is done. */
function withPlace(context: Context, handler: RouteHandlerMethod): RouteHandlerMethod {
  return async function (request, reply) {
    return withRequestPlace(context.budgets, context.config.limits, callerUid(request), async () => handler.call(this, request, reply))
  }
}

/** Costs and places of every route that is added after. */
export function addRequestBudgets(api: Api, context: Context): void {
  api.addHook('onRequest', (request, _reply, done) => {
    const more = (request.routeOptions.config.cost ?? 1) - 1 // The connection has paid for one.
    if (more > 0) context.budgets.requestRate.charge(callerUid(request), performance.now(), more)
    done()
  })
  api.addHook('onRoute', (route) => {
    const options = route as unknown as RouteOptions
    options.handler = withPlace(context, options.handler)
  })
}
