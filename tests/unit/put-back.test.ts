import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { putBack } from '../../daemon/slurm/job-control.ts'
import { StintError } from '../../daemon/core/errors.ts'
import { makeContext, type TestContext } from '../support/context.ts'

let made: TestContext
const stint = { jobId: 1, restarts: 1 }
const running = readFileSync(join(import.meta.dirname, '../fixtures/scontrol/running.txt'), 'utf8')

beforeAll(() => {
  made = makeContext()
  writeFileSync(join(made.folder, 'scontrol'), `#!/bin/sh\necho "$*" >>'${made.folder}/orders'\ncase $1 in requeue*) mv '${made.folder}/slurm.next' '${made.folder}/slurm';; esac\nexec cat '${made.folder}/slurm'\n`)
})
afterAll(async () => made[Symbol.asyncDispose]())

function job(state: string, restarts: number): string {
  return running.replace('JobState=RUNNING', `JobState=${state}`).replace('Restarts=0', `Restarts=${restarts}`)
}

/** What scontrol is told, beside questions, when Slurm says this of the job, and that it is PENDING or `then` after a requeue. */
async function orders(state: string, restarts: number, held?: StintError, then = job('PENDING', restarts + 1)): Promise<{ done: boolean; orders: string[] }> {
  writeFileSync(join(made.folder, 'slurm'), job(state, restarts))
  writeFileSync(join(made.folder, 'slurm.next'), then)
  writeFileSync(join(made.folder, 'orders'), '')
  const done = await putBack(made.context, stint, held)
  return { done, orders: readFileSync(join(made.folder, 'orders'), 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('show')) }
}

describe('putting a job back into the queue', () => {
  test.each([['RUNNING', 'incomplete 1'], ['SUSPENDED', 'incomplete 1'], ['NODE_FAIL', '1'], ['TIMEOUT', '1'], ['PREEMPTED', '1']])('is asked of Slurm while its stint is %s', async (state, what) => {
    expect(await orders(state, 1)).toEqual({ done: true, orders: [`requeue ${what}`] })
  })

  test('is left when somebody cancels the job in the same moment', async () => {
    expect(await orders('RUNNING', 1, undefined, job('CANCELLED', 1))).toEqual({ done: false, orders: ['requeue incomplete 1'] })
    expect(await orders('RUNNING', 1, new StintError('E_NO_CHECKPOINT', 'none is left'), job('COMPLETING', 1))).toEqual({ done: false, orders: ['requeuehold incomplete 1'] })
  })

  test('is asked for again when the stint has met its limit in the same moment', async () => {
    expect(await orders('RUNNING', 1, undefined, job('TIMEOUT', 1))).toEqual({ done: true, orders: ['requeue incomplete 1', 'requeue 1'] })
  }, 60_000)

  test.each([['PENDING', 1], ['PENDING', 2], ['RUNNING', 2], ['CANCELLED', 1], ['COMPLETED', 1]] as const)('ends nothing when the job is %s with %d restarts', async (state, restarts) => {
    expect(await orders(state, restarts)).toEqual({ done: false, orders: [] })
  })

  test('held, tells the reason', async () => {
    const reason = new StintError('E_NO_CHECKPOINT', 'none is left')
    expect(await orders('RUNNING', 1, reason)).toEqual({ done: true, orders: ['requeuehold incomplete 1', 'update jobid=1 comment=stint: E_NO_CHECKPOINT: none is left'] })
    expect(await orders('RUNNING', 2, reason)).toEqual({ done: false, orders: [] })
  })

  /** Slurm ends a job of n1 and n2; it says this of the nodes that the job still has, and of n2. */
  function completing(left: string, state: string): void {
    const record = job('COMPLETING', 1).replace(/ NodeList=\S+/, ` NodeList=${left}`)
    writeFileSync(join(made.folder, 'job'), record)
    writeFileSync(join(made.folder, 'details'), record.replace(' Command=', ' Nodes=n[1-2] CPU_IDs=0 Mem=1 GRES= Command='))
    writeFileSync(join(made.folder, 'node'), `NodeName=n2 NodeAddr=n2 State=${state} \n`)
    writeFileSync(join(made.folder, 'scontrol'), `#!/bin/sh
      cd '${made.folder}'; echo "$*" >>orders
      case "$*" in
        'show job -d'*) cat details ;;
        'show job'*) cat job ;;
        'show hostnames n[1-2]') echo n1; echo n2 ;;
        'show hostnames'*) echo "$3" ;;
        'show nodes -o n2') cat node ;;
      esac\n`, { mode: 0o755 })
    writeFileSync(join(made.folder, 'orders'), '')
  }
  const requeues = (): string[] => readFileSync(join(made.folder, 'orders'), 'utf8').split('\n').filter((line) => line.startsWith('requeue'))

  test.each([['n1', 'IDLE'], ['n[1-2]', 'DOWN*']])('is asked for at once while Slurm ends it on %s and n2 is %s', async (left, state) => {
    completing(left, state)
    writeFileSync(join(made.folder, 'job'), readFileSync(join(made.folder, 'job'), 'utf8').replace('Reason=None', 'Reason=TimeLimit'))
    expect(await putBack(made.context, stint)).toBe(true)
    expect(requeues()).toEqual(['requeue 1'])
  })

  test('waits while Slurm ends it and has taken back a node that is down: such a requeue crashes slurmctld (ticket 23768)', async () => {
    completing('n1', 'DOWN*')
    const path = join(made.folder, 'job')
    writeFileSync(path, readFileSync(path, 'utf8').replace('Reason=None', 'Reason=TimeLimit'))
    const done = putBack(made.context, stint)
    await new Promise((later) => setTimeout(later, 2000))
    expect(requeues()).toEqual([])
    writeFileSync(path, job('TIMEOUT', 1)) // Slurm has ended it.
    expect(await done).toBe(true)
    expect(requeues()).toEqual(['requeue 1'])
  }, 60_000)
})
