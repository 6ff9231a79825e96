import { describe, expect, test } from '@jest/globals'
import { on, printed, showJob, status, until, untilEnded } from '../support/cluster.ts'
import { bobStarts, descriptorsOf, flood, probe, restFloods } from '../support/floods.ts'

const minute = 60_000
const seconds = 60
const jobs = 10

describe('60 s of a flood by one user', () => {
  test.each(restFloods)('%s: ten jobs of another user start under Stint, are saved by walltime in time, and restored', async (kind) => {
    const flooding = flood('n1', kind, seconds)
    const waiting = probe('n1', seconds)
    // Their walltime of a minute comes while the flood is on for the first ones, and just after it for the last.
    const started = await Promise.all(Array.from({ length: jobs }, async (_, at) => bobStarts(at % 2 === 0 ? 'n1' : 'n2', 75, '--time=1')))
    expect(await descriptorsOf('n1')).toBeLessThan(400)
    await flooding
    const delays = await waiting
    process.stderr.write(`${kind}: opened after ${started.map(({ openedAfter }) => openedAfter).join(' ')} ms; root waited ${JSON.stringify(delays)}\n`)
    for (const { job, directory } of started) {
      await until(`job ${job} is restored`, 4 * 60, async () => Number((await showJob(job)).get('Restarts')) >= 1 || undefined)
      const ended = await untilEnded(job, 4 * 60)
      expect([job, ended.get('JobState')]).toEqual([job, 'COMPLETED'])
      expect((await printed(directory)).split('\n').at(-1)).toBe('done')
      const run = await status(ended.get('BatchHost') ?? '', job)
      expect(run?.events.filter(({ kind: what }) => what === 'checkpoint-failed')).toEqual([])
    }
    expect(await on('n1', 'stint doctor --json').then((text) => text.length)).toBeGreaterThan(2)
  }, 15 * minute)
})
