import fc from 'fast-check'
import type { Outcome } from './check.ts'
import { requests, restUnderTest } from './rest.ts'

/** Sends so many requests, one after the other. @param progress called with the number of requests sent, now and then */
export async function fuzzRest({ runs, seed, progress }: { readonly runs: number; readonly seed: number; readonly progress?: (done: number) => void }): Promise<Outcome> {
  await using rest = await restUnderTest()
  let done = 0
  const property = fc.asyncProperty(requests(rest.description), async (sent) => {
    if (++done % 1000 === 0) progress?.(done)
    await rest.check(sent)
  })
  const result = await fc.check(property, { numRuns: runs, seed })
  if (!result.failed) return { runs: result.numRuns, failure: undefined }
  const { errorInstance: error } = result as { errorInstance: unknown }
  return { runs: result.numRuns, failure: { input: fc.stringify(result.counterexample?.[0]), error: error instanceof Error ? (error.stack ?? error.message) : String(error) } }
}
