import { Type, type Static } from 'typebox'
import type { ErrorCode } from './errors.ts'
import { Nullable } from './nullable.ts'

/** What a drain tells, to admins and between daemons. Times are milliseconds since 1970, sizes bytes. */

const outcomes = ['waiting', 'saving', 'saved', 'ended', 'failed'] as const

/** What has become of one job of a node that is being drained. `ended`: it came to its own end before it was saved. */
export const DrainedJob = Type.Object({
  job: Type.Integer(),
  user: Type.String(),
  outcome: Type.Unsafe<(typeof outcomes)[number]>(Type.Enum([...outcomes])),
  checkpoint: Nullable(Type.Integer()),
  bytes: Nullable(Type.Number()),
  seconds: Nullable(Type.Number()),
  error: Nullable(Type.Object({ code: Type.Unsafe<ErrorCode>(Type.String()), message: Type.String(), hint: Type.String() })),
})
export type DrainedJob = Static<typeof DrainedJob>

export const DrainReport = Type.Object({
  node: Type.String(),
  startedAt: Type.Number(),
  endedAt: Nullable(Type.Number({ description: 'null while it is under way' })),
  jobs: Type.Array(DrainedJob),
})
export type DrainReport = Static<typeof DrainReport>
