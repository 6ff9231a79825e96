import { StintError } from './errors.ts'

/** Member states within one stint. */
export const memberMoves = {
  opening: ['running', 'restoring', 'ended'],
  restoring: ['running', 'ended'],
  running: ['dumping', 'restoring', 'ended'],
  dumping: ['running', 'held', 'ended'],
  held: ['running', 'ended'],
  ended: [],
} as const satisfies Record<string, readonly string[]>

export type MemberState = keyof typeof memberMoves

/** @throws StintError E_INTERNAL when the table does not allow the move */
export function assertMove<S extends string>(moves: Record<S, readonly S[]>, from: S, to: S): void {
  if (!moves[from].includes(to)) throw new StintError('E_INTERNAL', `illegal move from ${from} to ${to}`)
}

/** Why a checkpoint is made. */
export const triggers = ['walltime', 'preemption', 'signal', 'schedule', 'request', 'drain'] as const
export type Trigger = (typeof triggers)[number]
