import { createHash } from 'node:crypto'
import { StintError } from '../../../daemon/core/errors.ts'
import { parseManifest, type Manifest } from '../../../daemon/core/manifest.ts'
import { sealingKey, type StoreKey, type StoreKeys } from '../../../daemon/core/store-keys.ts'
import { manifestMac, sameMac } from './macs.ts'

/**
 * The last members of a manifest's text: the checksum of all before it, which tells damage, and the MAC of all before that, which
 * tells forgery. Who finds the first wrong has met an accident, who finds only the second wrong has met somebody.
 */
const seal = /,\n "sha256": "([0-9a-f]{64})"(?:,\n "key": "([0-9a-f]{16})",\n "mac": "([0-9a-f]{64})")?\n\}\n$/

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

export interface OpenedManifest {
  readonly manifest: Manifest
  /** The key that vouches for it. */
  readonly keyId: string | undefined
}

export function sealManifest(manifest: Manifest, key?: StoreKey): string {
  const open = JSON.stringify(manifest, undefined, 1).replace(/\n\}$/, '')
  const summed = `${open},\n "sha256": "${checksum(open)}"`
  if (key === undefined) return `${summed}\n}\n`
  const named = `${summed},\n "key": "${key.id}"`
  return `${named},\n "mac": "${manifestMac(key, named)}"\n}\n`
}

/** @throws StintError E_IMAGE_FORGED */
function assertVouchedFor(text: string, keyId: string | undefined, mac: string | undefined, keys: StoreKeys): void {
  if (keyId === undefined || mac === undefined) {
    if (sealingKey(keys) === undefined) return
    throw new StintError('E_IMAGE_FORGED', 'no key of this site vouches for it: it was made before the site had one, or by somebody else')
  }
  const key = keys.find(({ id }) => id === keyId)
  if (key === undefined) {
    const here = keys.length === 0 ? 'this node has no store key' : 'this node does not have it'
    throw new StintError('E_IMAGE_FORGED', `it was sealed with store key ${keyId}, and ${here}`, {
      hint: 'Nothing is lost. Copy the key file (store.key_file) from a node whose `stint key status` lists that key, then `scontrol release JOB`. A key that was dropped for good comes back from a backup only.',
      details: { missingKey: keyId },
    })
  }
  if (!sameMac(mac, manifestMac(key, text.slice(0, text.lastIndexOf(',\n "mac"'))))) throw new StintError('E_IMAGE_FORGED', 'its manifest was changed by somebody who does not have the store key')
}

/**
 * @throws StintError E_IMAGE_DAMAGED when the text is cut off or changed, or is of another version; E_IMAGE_FORGED when it is whole,
 *   and none of the keys vouches for it
 */
export function openManifest(text: string, keys: StoreKeys = []): OpenedManifest {
  const match = seal.exec(text)
  if (match === null || match[1] !== checksum(text.slice(0, match.index))) throw new StintError('E_IMAGE_DAMAGED', 'the manifest is not what was written')
  const [, , keyId, mac] = match
  assertVouchedFor(text, keyId, mac, keys)
  return { manifest: parseManifest(`${text.slice(0, match.index)}\n}`), keyId }
}
