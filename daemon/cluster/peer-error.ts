import { StintError, asStintError } from '../core/errors.ts'

export interface PeerErrorOptions {
  readonly hint?: string
  readonly cause?: unknown
  /** Whether it may be over in a moment: the other daemon or its sshd starts again. */
  readonly passing?: boolean
  /** Whether a request was sent, so that nobody here knows what came of it. */
  readonly sent?: boolean
}

/** E_PEER: something about reaching `node`. */
export function peerError(node: string, what: string, { hint, cause, passing = false, sent = false }: PeerErrorOptions = {}): StintError {
  return new StintError('E_PEER', `${node}: ${what}`, { hint, cause, details: { node, passing, sent } })
}

/** Whether another try is safe and has a chance. */
export function isPassing(error: unknown): boolean {
  const { code, details } = asStintError(error)
  return code === 'E_PEER' && details['passing'] === true && details['sent'] !== true
}
