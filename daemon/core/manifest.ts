import { Type, type Static } from 'typebox'
import { Value } from 'typebox/value'
import { RunNetwork } from './addresses.ts'
import { StintError } from './errors.ts'
import { LaunchBook } from './launch-book.ts'

/** One earlier stint of the run, for the timeline of `stint status`. */
const StintRecord = Type.Object({
  node: Type.String(),
  startedAt: Type.Number(),
  endedAt: Type.Number(),
  checkpoint: Type.Number(),
  trigger: Type.String(),
  bytes: Type.Number(),
  seconds: Type.Number(),
})

/**
 * `xxh3`: the 64 bits of XXH3 over the content, hexadecimal: tells damage. `gmac`: the MAC of the content, hexadecimal: tells
 * forgery; missing in images that no key of the site vouches for.
 */
const ImageFile = Type.Object({ path: Type.String(), bytes: Type.Number(), xxh3: Type.String(), gmac: Type.Optional(Type.String()) })

/**
 * What stands beside an image, written last: with it the image is sealed, and any node can restore the run.
 * Times are milliseconds since 1970, sizes bytes.
 */
export const ManifestSchema = Type.Object({
  version: Type.Literal(1),
  run: Type.String(),
  job: Type.Integer(),
  uid: Type.Integer(),
  gid: Type.Integer(),
  user: Type.String(),
  options: Type.String(),
  checkpoint: Type.Integer(),
  trigger: Type.String(),
  keepRunning: Type.Boolean(),
  member: Type.Integer(),
  /** Every member with a part in this checkpoint. */
  members: Type.Array(Type.Integer()),
  /** Host names for life, by member. */
  hosts: Type.Array(Type.String()),
  /** Nodes of the stint that made it, by member. */
  nodes: Type.Array(Type.String()),
  /** Of a run over several nodes. */
  network: Type.Union([RunNetwork, Type.Null()]),
  /** Commands that MPI launchers have under way on other members; in the image of member 0 only. */
  launches: LaunchBook,
  node: Type.String(),
  restarts: Type.Integer(),
  createdAt: Type.Number(),
  hostname: Type.String(),
  address: Type.String(),
  rootPid: Type.Integer(),
  criuVersion: Type.String(),
  kernel: Type.String(),
  machine: Type.String(),
  script: Type.String(),
  carried: Type.Array(Type.String()),
  seconds: Type.Number(),
  bytes: Type.Number(),
  /** That the payload held when it was frozen; missing where nothing counted it, and in images of older daemons. */
  memory: Type.Optional(Type.Number()),
  files: Type.Array(ImageFile),
  /** Of the keys that the MACs of the files are made with, hexadecimal. */
  salt: Type.Optional(Type.String({ pattern: '^[0-9a-f]{32}$' })),
  history: Type.Array(StintRecord),
})

export type Manifest = Static<typeof ManifestSchema>
export type ImageFile = Static<typeof ImageFile>
export type StintRecord = Static<typeof StintRecord>

/** @throws StintError E_IMAGE_DAMAGED when the text is no manifest of a version this daemon knows */
export function parseManifest(text: string): Manifest {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new StintError('E_IMAGE_DAMAGED', 'the manifest is no JSON', { cause })
  }
  if (!Value.Check(ManifestSchema, value)) throw new StintError('E_IMAGE_DAMAGED', 'the manifest lacks fields or is of another version')
  return value
}
