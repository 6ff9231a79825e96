import type { FastifyRequest } from 'fastify'
import { StintError } from '../core/errors.ts'
import type { Actor } from '../images/audit.ts'
import { peerCredentials } from '../linux/peer.ts'

/** The kernel's word on who asks. */
export function callerUid(request: FastifyRequest): number {
  return peerCredentials(request.raw.socket).uid
}

/** The same for the record. */
export function callerOf(request: FastifyRequest): Actor {
  const { uid, pid } = peerCredentials(request.raw.socket)
  return { uid, pid, channel: 'socket' }
}

/** @throws StintError E_FORBIDDEN */
export function requireRoot(request: FastifyRequest): void {
  if (callerUid(request) !== 0) throw new StintError('E_FORBIDDEN', 'only root may do this', { hint: 'Ask your admin.' })
}
