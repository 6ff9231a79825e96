import type { Context } from '../context.ts'
import { StintError } from '../core/errors.ts'
import { addPeerDrainRoutes } from './routes/drain.ts'
import { addHelloRoutes } from './routes/hello.ts'
import { addMemberRoutes } from './routes/members.ts'
import { addForwardedRoutes } from './routes/runs.ts'
import { peerPermissions } from './schemas.ts'
import type { Api } from './api.ts'
import { callerUid } from './caller.ts'
import { makeApi, serve } from './server.ts'

/** The API for the daemons of other nodes, which come over SSH (cluster/peers.ts), with all its routes. */
export async function makePeerApi(context: Context): Promise<Api> {
  const about = "What daemons of a cluster ask of each other: stintd's peer socket, reached over SSH. No interface for others; it changes with every version."
  return makeApi(context, 'root', { title: 'Stint, between daemons', about, permissions: peerPermissions }, (api) => {
    // Besides the socket's mode: what is asked here is done to anybody's job.
    api.addHook('onRequest', (request, _reply, done) => {
      done(callerUid(request) === 0 ? undefined : new StintError('E_FORBIDDEN', 'only root may ask here', { hint: 'Use `stint`, or the REST socket.' }))
    })
    addHelloRoutes(api, context)
    addMemberRoutes(api, context)
    addForwardedRoutes(api, context)
    addPeerDrainRoutes(api, context)
  })
}

export async function servePeerApi(context: Context): Promise<AsyncDisposable> {
  return serve(await makePeerApi(context), context.config.paths.peer_socket, 0o600)
}
