import { expect, test } from '@jest/globals'
import { fixtures, on, showJob, status, submit, tryOn, until, untilPrinted, untilRunning, workDirectory } from '../support/cluster.ts'

/** A job that has 8000 small files open for writing is saved by its walltime alone, in time. */

const minute = 60_000
const count = 8000

/** The file system flushes with others; the aim is a second, and 14 s were too long. */
const mostSeconds = 8

test(`a job with ${count} files open for writing is sealed before its limit, and goes on with all of them`, async () => {
  const directory = await workDirectory()
  const job = await submit({ directory, options: '--stint --time=1', script: `#!/bin/bash\nexec python3 ${fixtures}/programs/many-files.py ${count}\n` })
  const node = await untilRunning(job)
  const end = Date.parse(`${(await showJob(job)).get('EndTime') ?? ''}Z`)
  const sealed = await until('it is sealed', 90, async () => (await status(node, job))?.events.find((event) => event.kind === 'sealed'))
  expect(sealed.at).toBeLessThan(end)
  expect(sealed.detail['seconds']).toBeLessThan(mostSeconds)
  const planned = (await status(node, job))?.events.find((event) => event.kind === 'checkpoint')?.detail['planned'] as { prediction: { seconds: number } }
  expect(planned.prediction.seconds).toBeGreaterThan(0.3 * Number(sealed.detail['seconds']))
  await untilRunning(job, 1, 150)
  await on('ctl', `touch ${directory}/go`, { user: 'alice' })
  await untilPrinted(directory, new RegExp(`RESULT ${count}`), 60)
  await tryOn('ctl', `scancel ${job}`)
}, 6 * minute)
