import fc from 'fast-check'
import type { Target } from './targets.ts'

/** No parser may take longer for an input, milliseconds of processor time; the longest of the generated inputs take a fifth of it on a slow machine. What takes longer is tried again: memory may have been collected. */
const limitMs = 250
const tries = 4

class TooSlow extends Error {}

/** Of looking for the smallest input that fails. */
const shrinkMs = 20_000

function timed(run: () => void): number {
  const start = performance.now()
  const used = process.threadCpuUsage()
  run()
  if (performance.now() - start <= limitMs) return 0
  const { user, system } = process.threadCpuUsage(used)
  return (user + system) / 1000
}

/** @throws Error when it throws, or takes longer than the limit however often it is tried */
export function runWithin(run: () => void): void {
  let least = Infinity
  for (let at = 0; at < tries; at++) {
    least = Math.min(least, timed(run))
    if (least <= limitMs) return
  }
  throw new TooSlow(`took ${least.toFixed(0)} ms, more than ${limitMs} ms`)
}

export interface Outcome {
  readonly runs: number
  /** The shrunk input and what it did; undefined when all held. */
  readonly failure: { readonly input: string; readonly error: string } | undefined
}

/** Tries so many inputs. @param progress called with the number of inputs tried, now and then */
export function fuzz(target: Target, { runs, seed, progress }: { readonly runs: number; readonly seed: number; readonly progress?: (done: number) => void }): Outcome {
  let done = 0
  const property = fc.property(target.input, (input) => {
    if (++done % 1000 === 0) progress?.(done)
    runWithin(() => { target.run(input) })
  })
  const found = fc.check(property, { numRuns: runs, seed, endOnFailure: true })
  if (!found.failed) return { runs: found.numRuns, failure: undefined }
  // The same again with the fewest changes; an input that takes long would take as long for every step of that.
  const isSlow = (found as { errorInstance: unknown }).errorInstance instanceof TooSlow
  const result = isSlow ? found : fc.check(property, { numRuns: runs, seed, path: found.counterexamplePath ?? '', interruptAfterTimeLimit: shrinkMs })
  const { errorInstance: error } = (result.failed ? result : found) as { errorInstance: unknown }
  return { runs: found.numRuns, failure: { input: fc.stringify((result.counterexample ?? found.counterexample)?.[0]), error: error instanceof Error ? (error.stack ?? error.message) : String(error) } }
}
