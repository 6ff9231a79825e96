import { createHash } from 'node:crypto'
import { StintError } from '../../../daemon/core/errors.ts'
import { parseManifest, type Manifest } from '../../../daemon/core/manifest.ts'

/** The last member of a manifest's text: the checksum of all before it, so that the manifest vouches for itself as for the image. */
const seal = /,\n "sha256": "([0-9a-f]{64})"\n\}\n$/

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

export function sealManifest(manifest: Manifest): string {
  const open = JSON.stringify(manifest, undefined, 1).replace(/\n\}$/, '')
  return `${open},\n "sha256": "${checksum(open)}"\n}\n`
}

/** @throws StintError E_IMAGE_DAMAGED when the text is cut off or changed, or is of another version */
export function openManifest(text: string): Manifest {
  const match = seal.exec(text)
  if (match === null || match[1] !== checksum(text.slice(0, match.index))) throw new StintError('E_IMAGE_DAMAGED', 'the manifest is not what was written')
  return parseManifest(text)
}
