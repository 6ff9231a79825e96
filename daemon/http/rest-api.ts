import type { Context } from '../context.ts'
import { addAuditRoutes } from './routes/audit.ts'
import { addDoctorRoutes } from './routes/doctor.ts'
import { addDrainRoutes } from './routes/drain.ts'
import { addHealthRoutes } from './routes/health.ts'
import { addImageRoutes } from './routes/images.ts'
import { addReclaimRoutes } from './routes/reclaim.ts'
import { addRunRoutes } from './routes/runs.ts'
import { permissions } from './schemas.ts'
import type { Api } from './api.ts'
import { admitConnections } from './admission.ts'
import { makeApi, serve } from './server.ts'

/** The REST API for the users of this node, with all its routes. */
export async function makeRestApi(context: Context): Promise<Api> {
  return makeApi(context, 'users', { title: 'Stint', about: 'REST API of stintd on its Unix socket.', permissions }, (api) => {
    addRunRoutes(api, context)
    addImageRoutes(api, context)
    addReclaimRoutes(api, context)
    addAuditRoutes(api, context)
    addDoctorRoutes(api, context)
    addHealthRoutes(api, context)
    addDrainRoutes(api, context)
  })
}

/** Every local user may connect; the kernel tells who it is. */
export async function serveRestApi(context: Context): Promise<AsyncDisposable> {
  const api = await makeRestApi(context)
  admitConnections(context, api.server)
  return serve(api, context.config.paths.socket, 0o666)
}
