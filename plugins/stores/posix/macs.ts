import { createCipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual, type CipherGCM } from 'node:crypto'
import type { StoreKey } from '../../../daemon/core/store-keys.ts'

/**
 * What vouches for an image against whoever can write to the store: HMAC-SHA-256 over the manifest, and in it for each file a GMAC
 * (NIST SP 800-38D) over its content. A checksum like XXH3 would not do: who changes a file finds another with the same sum. GMAC
 * and not SHA-256, since it is four times as fast and all of an image is read before every restore. Every key is derived
 * (HKDF, RFC 5869) for one purpose: for each file of each image there is another one, so that one nonce is never used twice.
 */

const zeroNonce = Buffer.alloc(12)

/** Bytes, hexadecimal in the manifest: another one for each image. */
export function newSalt(): string {
  return randomBytes(16).toString('hex')
}

/** Over the manifest's text. */
export function manifestMac({ secret }: StoreKey, text: string): string {
  return createHmac('sha256', Buffer.from(hkdfSync('sha256', secret, '', 'stint manifest mac', 32))).update(text).digest('hex')
}

/** In constant time. */
export function sameMac(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}

/** From which those of an image's files are derived; all that the hashing thread gets to know. */
export function imageKey({ secret }: StoreKey, salt: string): Uint8Array {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.from(salt, 'hex'), 'stint image', 32))
}

/** The GMAC of one file, piece by piece. The path is in its key: content of one file is none of another. */
export class FileMac {
  readonly #cipher: CipherGCM

  constructor(key: Uint8Array, path: string) {
    this.#cipher = createCipheriv('aes-256-gcm', Buffer.from(hkdfSync('sha256', key, '', `stint file ${path}`, 32)), zeroNonce)
  }

  update(bytes: Buffer): void {
    this.#cipher.setAAD(bytes)
  }

  digest(): string {
    this.#cipher.final()
    return this.#cipher.getAuthTag().toString('hex')
  }
}
