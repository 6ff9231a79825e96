/**
 * Named instants at which a test may end the daemon as a power cut would. Off unless STINT_FAULT names one:
 * `STINT_FAULT=sealed:/run/stint/fault-once` kills the daemon at the point `sealed` if that file does not exist yet
 * (it is made first, so that the restarted daemon passes).
 */

export const faultPoints = ['opened', 'member-started', 'dumping', 'prepared', 'sealed', 'decided', 'ending', 'committed', 'rehearsed', 'restoring'] as const
export type FaultPoint = (typeof faultPoints)[number]

/** Called at each point; does nothing in production. */
export type FaultHook = (point: FaultPoint) => void

export const noFaults: FaultHook = () => undefined

/** Parses STINT_FAULT; undefined when unset or no known point. */
export function parseFault(text: string | undefined): { point: FaultPoint; onceFile: string } | undefined {
  const [point, onceFile] = (text ?? '').split(':', 2)
  const found = faultPoints.find((p) => p === point)
  return found !== undefined && onceFile !== undefined && onceFile !== '' ? { point: found, onceFile } : undefined
}
