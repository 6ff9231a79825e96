import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { putBack } from '../../daemon/actions/put-back.ts'
import { StintError } from '../../daemon/core/errors.ts'
import { makeContext, type TestContext } from '../support/context.ts'

let made: TestContext
const stint = { jobId: 1, restarts: 1 }
const running = readFileSync(join(import.meta.dirname, '../fixtures/scontrol/running.txt'), 'utf8')

beforeAll(() => {
  made = makeContext()
  writeFileSync(join(made.folder, 'scontrol'), `#!/bin/sh\necho "$*" >>'${made.folder}/orders'\nexec cat '${made.folder}/slurm'\n`)
})
afterAll(async () => made[Symbol.asyncDispose]())

/** What scontrol is told, beside questions, when Slurm says this of the job. */
async function orders(state: string, restarts: number, held?: StintError): Promise<{ done: boolean; orders: string[] }> {
  writeFileSync(join(made.folder, 'slurm'), running.replace('JobState=RUNNING', `JobState=${state}`).replace('Restarts=0', `Restarts=${restarts}`))
  writeFileSync(join(made.folder, 'orders'), '')
  const done = await putBack(made.context, stint, held)
  return { done, orders: readFileSync(join(made.folder, 'orders'), 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('show')) }
}

describe('putting a job back into the queue', () => {
  test.each(['RUNNING', 'NODE_FAIL', 'TIMEOUT', 'PREEMPTED'])('is asked of Slurm while its stint is %s', async (state) => {
    expect(await orders(state, 1)).toEqual({ done: true, orders: ['requeue 1'] })
  })

  test.each([['PENDING', 1], ['PENDING', 2], ['RUNNING', 2], ['CANCELLED', 1], ['COMPLETED', 1]] as const)('ends nothing when the job is %s with %d restarts', async (state, restarts) => {
    expect(await orders(state, restarts)).toEqual({ done: false, orders: [] })
  })

  test('held, tells the reason', async () => {
    const reason = new StintError('E_NO_CHECKPOINT', 'none is left')
    expect(await orders('RUNNING', 1, reason)).toEqual({ done: true, orders: ['requeuehold 1', 'update jobid=1 comment=stint: E_NO_CHECKPOINT: none is left'] })
    expect(await orders('RUNNING', 2, reason)).toEqual({ done: false, orders: [] })
  })
})
