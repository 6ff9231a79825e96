/**
 * Hashes and flushes an image on another core, also while CRIU still writes it, so that sealing adds next to nothing to a
 * freeze that lasts until the seal. CRIU appends to its pages files and never rewrites what it wrote, so a growing prefix may be hashed.
 */
import { closeSync, fdatasync, openSync, readSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { parentPort, workerData } from 'node:worker_threads'
import { xxh3 } from '@node-rs/xxhash'
import { FileMac } from './macs.ts'

export interface HashOrder {
  readonly directory: string
  /** Makes the MACs; undefined: none. */
  readonly key: Uint8Array | undefined
  /** Whether checksums are made. */
  readonly sums: boolean
}

interface Growing {
  readonly fd: number
  readonly hash: xxh3.Xxh3 | undefined
  readonly mac: FileMac | undefined
  bytes: number
  unflushed: number
  /** The flush under way; hashing goes on meanwhile. */
  flushed: Promise<void>
}

/** Dirty bytes after which a file is flushed while it grows: large enough to keep the device busy, small enough to leave little for the end. */
const flushEvery = 64 * 2 ** 20
const pollMilliseconds = 5
const buffer = Buffer.allocUnsafe(4 * 2 ** 20)
const { directory, key, sums } = workerData as HashOrder
const files = new Map<string, Growing>()
const flush = promisify(fdatasync)

async function follow(path: string): Promise<void> {
  let file = files.get(path)
  if (file === undefined) {
    file = { fd: openSync(join(directory, path), 'r'), hash: sums ? xxh3.Xxh3.withSeed() : undefined, mac: key === undefined ? undefined : new FileMac(key, path), bytes: 0, unflushed: 0, flushed: Promise.resolve() }
    files.set(path, file)
  }
  for (let got = 1; got > 0; ) {
    got = readSync(file.fd, buffer, 0, buffer.length, file.bytes)
    file.hash?.update(buffer.subarray(0, got))
    file.mac?.update(buffer.subarray(0, got))
    file.bytes += got
    file.unflushed += got
    if (file.unflushed >= flushEvery) {
      await file.flushed
      file.unflushed = 0
      file.flushed = flush(file.fd)
    }
  }
}

/** Paths below the directory that match, sub-directories included. */
function list(matches: (name: string) => boolean): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && matches(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
}

const written = new AbortController()
parentPort?.once('message', () => { written.abort() })
while (!written.signal.aborted) {
  for (const path of list((name) => /^pages-\d+\.img$/.test(name))) await follow(path)
  await sleep(pollMilliseconds)
}
for (const path of list(() => true)) await follow(path)
const result = []
for (const [path, file] of files) {
  await file.flushed
  await flush(file.fd)
  closeSync(file.fd)
  result.push({ path, bytes: file.bytes, xxh3: file.hash?.digest().toString(16) ?? '', ...(file.mac === undefined ? {} : { gmac: file.mac.digest() }) })
}
parentPort?.postMessage(result)
parentPort?.close()
