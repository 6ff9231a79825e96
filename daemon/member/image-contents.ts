import type { ImageContents } from '../context.ts'
import { bytesBelow } from '../linux/tree-bytes.ts'
import { carryIn, carryOut } from './archive.ts'
import { recordFiles, rollBack } from './file-rollback.ts'
import { assertNotForged, assertSame, recordIdentities } from './identities.ts'
import { putBackLedger, recordLedger } from './ledger.ts'
import { assertReadFiles, recordReadFiles } from './read-files.ts'
import { assertWithinRoom } from './space-watch.ts'

/** What of an image is not the engine's. */
export const imageContents: ImageContents = {
  async recordFrozen(context, sandbox, directory, found, signal) {
    // Side by side: the payload is frozen for all of them.
    const outcomes = await Promise.allSettled([
      recordIdentities(context, sandbox, directory), recordLedger(context, sandbox, directory, found.living), carryOut(context, sandbox, directory, found.entries, found.carried, signal),
    ])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    await recordReadFiles(context, sandbox, directory, found.readFiles)
  },
  recordFiles,
  bytesBelow,
  assertWithinRoom,
  assertNotForged,
  async putIn(context, sandbox, image, cgroups) {
    await carryIn(context, sandbox, image.directory, cgroups)
    await rollBack(context, sandbox, image)
    await assertReadFiles(context, sandbox, image.directory)
  },
  putBackLedger,
  assertSame,
}
