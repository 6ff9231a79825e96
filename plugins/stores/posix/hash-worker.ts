/**
 * Hashes and flushes an image on another core, also while CRIU still writes it, so that sealing adds next to nothing to a
 * freeze that lasts until the seal. CRIU appends to its pages files and never rewrites what it wrote, so a growing prefix may be hashed.
 */
import { closeSync, fdatasyncSync, openSync, readSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { createXXHash128, type IHasher } from 'hash-wasm'

interface Growing {
  readonly fd: number
  readonly hash: IHasher
  bytes: number
  unflushed: number
}

/** Dirty bytes after which a file is flushed while it grows: large enough to keep the device busy, small enough to leave little for the end. */
const flushEvery = 64 * 2 ** 20
const pollMilliseconds = 5
const buffer = Buffer.allocUnsafe(4 * 2 ** 20)
const directory = workerData as string
const files = new Map<string, Growing>()

async function follow(path: string): Promise<void> {
  let file = files.get(path)
  if (file === undefined) {
    const hash = await createXXHash128()
    file = { fd: openSync(join(directory, path), 'r'), hash: hash.init(), bytes: 0, unflushed: 0 }
    files.set(path, file)
  }
  for (let got = 1; got > 0; ) {
    got = readSync(file.fd, buffer, 0, buffer.length, file.bytes)
    file.hash.update(buffer.subarray(0, got))
    file.bytes += got
    file.unflushed += got
    if (file.unflushed >= flushEvery) {
      fdatasyncSync(file.fd)
      file.unflushed = 0
    }
  }
}

/** Paths below the directory that match, sub-directories included. */
function list(matches: (name: string) => boolean): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && matches(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
}

let finishing = false

async function pollGrowing(): Promise<void> {
  if (finishing) return
  for (const path of list((name) => /^pages-\d+\.img$/.test(name))) await follow(path)
  setTimeout(() => void pollGrowing(), pollMilliseconds)
}

async function finish(): Promise<void> {
  finishing = true
  for (const path of list(() => true)) await follow(path)
  const result = [...files].map(([path, file]) => {
    fdatasyncSync(file.fd)
    closeSync(file.fd)
    return { path, bytes: file.bytes, xxh128: file.hash.digest() }
  })
  parentPort?.postMessage(result)
}

// `finish` arrives between two reads at the latest: follow() yields to the event loop only while a hasher is made.
let queue = pollGrowing()
parentPort?.on('message', () => {
  queue = queue.then(finish)
})
