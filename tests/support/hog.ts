import { expect } from '@jest/globals'
import { fixtures, on, printed, submit, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from './cluster.ts'

/** A job that holds much memory, checks every page of it at its end, and ends when it is told to. */
export interface Hog {
  readonly job: number
  readonly node: string
  readonly directory: string
  /** When Slurm ends its first allocation, milliseconds since 1970. */
  readonly walltimeEndsAt: number
}

/** Submits it with a time limit in minutes and waits until it has its memory. */
export async function submitHog(megabytes: number, time: number, more = ''): Promise<Hog> {
  const directory = await workDirectory()
  const script = `#!/bin/bash\npython3 ${fixtures}/programs/hog.py ${megabytes} end\n`
  const job = await submit({ directory, options: `--stint --time=${time} --mem=${megabytes + 500} ${more}`, script })
  const node = await untilRunning(job)
  const { walltimeEndsAt } = await untilState(node, job, 'running')
  await untilPrinted(directory, /^ready/, 120)
    .catch(async (error: unknown) => { await on('ctl', `scancel ${job}`); throw error })
  return { job, node, directory, walltimeEndsAt: walltimeEndsAt ?? NaN }
}

/** Lets the job check its memory and end, wherever it runs by now. @returns its last fields */
export async function endHog({ job, directory }: Hog): Promise<ReadonlyMap<string, string>> {
  await on('ctl', `touch ${directory}/end`, { user: 'alice' })
  const fields = await untilEnded(job, 180)
  expect(fields.get('ExitCode')).toBe('0:0')
  expect(await printed(directory)).toMatch(/\nDONE True$/)
  return fields
}
