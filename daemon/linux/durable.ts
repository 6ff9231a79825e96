import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** Flushes a file or directory to the device. */
export function syncPath(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Publishes a file: written beside, flushed, renamed, directory flushed. */
export function writeDurably(path: string, text: string, mode = 0o600): void {
  const beside = `${path}.new`
  writeFileSync(beside, text, { mode })
  syncPath(beside)
  renameSync(beside, path)
  syncPath(dirname(path))
}
