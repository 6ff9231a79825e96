import { Type, type Static } from 'typebox'
import { Nullable } from '../core/nullable.ts'

/** Shapes of the REST API, shared with the command line. Times are milliseconds since 1970, sizes bytes. */

export const ErrorBody = Type.Object({ code: Type.String(), message: Type.String(), hint: Type.String() }, { description: 'Refused, and nothing was changed; the code is one of docs/reference/errors.md' })

/** Refusals of every route, with a code of core/errors.ts. */
export const errorResponses = { '4xx': ErrorBody, '5xx': ErrorBody }

/** Who may call a route: `x-permission` in the API's description. */
export const permissions = {
  anyone: 'every local user',
  own: 'every local user, who sees what belongs to them; root sees all',
  owner: "the job's owner and root",
  root: 'root alone',
} as const

/** The same for the socket that other daemons come to. */
export const peerPermissions = {
  peer: 'root, as which stintd of another node comes',
} as const
export type Permission = keyof typeof permissions | keyof typeof peerPermissions

export const CheckpointView = Type.Object({
  number: Type.Integer(),
  trigger: Type.String(),
  keepRunning: Type.Boolean(),
  state: Type.String(),
  startedAt: Type.Number(),
  frozenMs: Nullable(Type.Number()),
  seconds: Nullable(Type.Number()),
  bytes: Nullable(Type.Number()),
  error: Nullable(Type.String()),
})
export type CheckpointView = Static<typeof CheckpointView>

export const StintView = Type.Object({
  node: Type.String(),
  startedAt: Type.Number(),
  endedAt: Type.Number(),
  checkpoint: Type.Integer(),
  trigger: Type.String(),
  bytes: Type.Number(),
  seconds: Type.Number(),
})

export const RunView = Type.Object({
  job: Type.Integer(),
  run: Type.String(),
  user: Type.String(),
  node: Nullable(Type.String()),
  /** Of this stint, by member. */
  nodes: Type.Array(Type.String()),
  state: Type.String(),
  restarts: Type.Integer(),
  startedAt: Type.Number(),
  endedAt: Nullable(Type.Number()),
  waitStatus: Nullable(Type.Integer()),
  walltimeEndsAt: Nullable(Type.Number()),
  savedAt: Nullable(Type.Number()),
  plan: Nullable(Type.Object({
    bytes: Type.Number({ description: 'to be written' }),
    seconds: Type.Number({ description: 'by the median of what was measured' }),
    spreadSeconds: Type.Number({ description: 'median absolute deviation of what was measured' }),
    measured: Type.Integer({ description: 'checkpoints of this node that the prediction rests on' }),
    besideSeconds: Type.Number({ description: 'for other runs of this node that end at the same time' }),
    safety: Type.Number({ description: 'factor on the spread' }),
    marginSeconds: Type.Number(),
  }, { description: 'why the walltime checkpoint begins at savedAt: walltimeEndsAt - (seconds + besideSeconds + safety * spreadSeconds + marginSeconds)' })),
  periodicAt: Nullable(Type.Number({ description: 'the next periodic checkpoint' })),
  error: Nullable(Type.String()),
  stints: Type.Array(StintView),
  checkpoints: Type.Array(CheckpointView),
  events: Type.Array(Type.Object({ at: Type.Number(), kind: Type.String(), detail: Type.Record(Type.String(), Type.Unknown()) })),
})
export type RunView = Static<typeof RunView>

export const ImageView = Type.Object({
  job: Type.Integer(),
  state: Type.Union([Type.Literal('sealed'), Type.Literal('damaged'), Type.Literal('forged')], { description: 'of the manifest: forged is one that no key of the site vouches for; files are compared when they are restored' }),
  key: Nullable(Type.String({ description: 'the store key that vouches for it' })),
  user: Nullable(Type.String({ description: 'null, as all that a manifest tells, where it cannot be read or trusted' })),
  checkpoint: Type.Integer(),
  trigger: Nullable(Type.String()),
  node: Nullable(Type.String()),
  members: Nullable(Type.Integer()),
  createdAt: Type.Number({ description: 'where the manifest does not tell: when anything in the directory was last written' }),
  bytes: Type.Number(),
  seconds: Nullable(Type.Number()),
  directory: Type.String(),
  error: Nullable(Type.String({ description: 'what is wrong with it' })),
})
export type ImageView = Static<typeof ImageView>

export const AdoptedView = Type.Object({
  job: Type.Integer(), run: Type.String(), checkpoint: Type.Integer(), member: Type.Integer(),
  error: Nullable(Type.String({ description: 'why it was left as it is' })),
})
export type AdoptedView = Static<typeof AdoptedView>

export const CheckView = Type.Object({
  job: Type.Integer(),
  processes: Type.Integer(),
  bytes: Type.Number(),
  predictedSeconds: Type.Number(),
  carried: Type.Array(Type.String()),
  obstacles: Type.Array(Type.Object({ kind: Type.String(), message: Type.String(), remedy: Type.String() })),
})
export type CheckView = Static<typeof CheckView>

export const FindingView = Type.Object({ subject: Type.String(), verdict: Type.Union([Type.Literal('ok'), Type.Literal('warning'), Type.Literal('fault')]), found: Type.String(), remedy: Type.String() })
export type FindingView = Static<typeof FindingView>

export const ReclaimView = Type.Object({
  job: Type.Integer(),
  run: Type.String(),
  user: Nullable(Type.String()),
  what: Type.Union([Type.Literal('images'), Type.Literal('unfinished'), Type.Literal('unreadable')]),
  bytes: Type.Number(),
  reason: Type.String(),
})
export type ReclaimView = Static<typeof ReclaimView>

/** Slurm's job ids have 32 bits. */
const JobId = Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1 })

export const JobParams = Type.Object({ job: JobId }, { additionalProperties: false })
export const CheckpointRequest = Type.Object({ keepRunning: Type.Optional(Type.Boolean()) }, { additionalProperties: false })
/** Who asks, by the word of the daemon the user spoke to. */
export const OnBehalf = Type.Object({ uid: Type.Integer({ minimum: 0 }) }, { additionalProperties: false })
export const CheckpointOnBehalf = Type.Object({ uid: Type.Integer({ minimum: 0 }), keepRunning: Type.Boolean() }, { additionalProperties: false })
export const ReclaimRequest = Type.Object({ dryRun: Type.Optional(Type.Boolean()), now: Type.Optional(Type.Boolean()) }, { additionalProperties: false })
/** Slurm takes no control bytes in a reason. */
export const DrainRequest = Type.Object({ node: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })), reason: Type.Optional(Type.String({ pattern: '^[\\x20-\\x7e]{1,200}$' })) }, { additionalProperties: false })
/** The same from the node where the admin is. */
export const PeerDrainRequest = Type.Required(Type.Pick(DrainRequest, ['reason']), { additionalProperties: false })
export const DrainQuery = Type.Pick(DrainRequest, ['node'], { additionalProperties: false })
export const AdoptRequest = Type.Object({ job: Type.Optional(JobId) }, { additionalProperties: false })
export const ImagesQuery = Type.Object({ job: Type.Optional(JobId) }, { additionalProperties: false })

/** Delays in milliseconds, over the last minute or two. */
export const HealthView = Type.Object({
  node: Type.String(), version: Type.String(),
  loopDelay: Type.Object({ p50: Type.Number(), p99: Type.Number(), max: Type.Number(), maxSinceStart: Type.Number() }),
  looks: Type.Object({ running: Type.Integer(), waiting: Type.Integer() }),
})
export type HealthView = Static<typeof HealthView>

export const AuditQuery = Type.Object({ job: Type.Optional(JobId), since: Type.Optional(Type.Integer({ minimum: 0 })), user: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })) }, { additionalProperties: false })
export const AuditView = Type.Object({
  at: Type.Number(),
  uid: Nullable(Type.Integer({ description: 'who asked; null where Slurm or the daemon itself did' })),
  pid: Nullable(Type.Integer()),
  channel: Type.String({ description: 'socket, peer (a user of another node), signal (by way of Slurm), daemon' }),
  action: Type.String({ description: 'save, restore, reclaim, remove, drain' }),
  job: Nullable(Type.Integer()),
  run: Nullable(Type.String()),
  owner: Nullable(Type.Integer({ description: 'uid of the job' })),
  user: Nullable(Type.String()),
  checkpoint: Nullable(Type.Integer()),
  image: Nullable(Type.String({ description: 'SHA-256 of the manifest of member 0' })),
  outcome: Type.String({ description: '`done`, or a code of docs/reference/errors.md' }),
  detail: Type.Record(Type.String(), Type.Unknown()),
})
export type AuditView = Static<typeof AuditView>

/** The daemon of a node, to others. */
export const HelloView = Type.Object({
  node: Type.String(), version: Type.String(),
  keys: Type.Array(Type.Object({ id: Type.String(), use: Type.String() }), { description: 'ids of its store keys, which tell nothing of their secrets' }),
})
export type HelloView = Static<typeof HelloView>
