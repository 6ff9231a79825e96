import { afterAll, beforeAll } from '@jest/globals'
import { serveRestApi } from '../../daemon/http/rest-api.ts'
import { makeContext, type TestContext } from './context.ts'

export interface ServedApi {
  readonly made: TestContext
  readonly socketPath: string
}

/**
 * The REST API on a real socket for all tests of a file: job 5 has a live sandbox.
 * @param prepare puts more on record before it serves
 * @returns what is there once the tests run
 */
export function useApi(prepare: (made: TestContext) => void): () => ServedApi {
  let made: TestContext
  let serving: AsyncDisposable
  beforeAll(async () => {
    made = makeContext()
    made.addSandbox(5)
    prepare(made)
    serving = await serveRestApi(made.context)
  })
  afterAll(async () => {
    await serving[Symbol.asyncDispose]()
    await made[Symbol.asyncDispose]()
  })
  return () => ({ made, socketPath: made.context.config.paths.socket })
}
