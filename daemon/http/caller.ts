import type { FastifyRequest } from 'fastify'
import { peerCredentials } from '../linux/peer.ts'

/** The kernel's word on who asks. */
export function callerUid(request: FastifyRequest): number {
  return peerCredentials(request.raw.socket).uid
}
