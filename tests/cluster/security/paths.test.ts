import { beforeAll, describe, expect, test } from '@jest/globals'
import { begin, fixtures, on, printed, showJob, status, submit, tryOn, until, untilState, untilRunning, workDirectory } from '../../support/cluster.ts'

/**
 * A user replaces what the payload had open while the job waits in the queue: CRIU opens, maps and makes it all by its path. Nothing
 * that the user could not reach by an `open` of its own may be reached by a restore.
 */

/** Seen neither in an output of a job nor in a message. */
const secret = 'SECRET-of-somebody-else'
/** Files of root and of bob that alice may not open; what her jobs hold has the same size and mode. */
const others = '/shared/others'
const page = 4096
/** A hidden file has another size: a refusal must not tell it. */
const hiddenBytes = 31_337

interface Attack {
  /** As alice, in the job's directory, once the job waits in the queue. */
  readonly swap: string
  /** As root, at the same time. */
  readonly meanwhile?: string
}

const link = (target: string): string => `rm -rf object && ln -s ${target} object`

/** By the kind of tests/fixtures/programs/reopened.py, and a word where there are several of one. */
const attacks = {
  'read': { swap: link(`${others}/root-file`) },
  'read bob': { swap: link(`${others}/bob-file`) },
  'read hard-link': { swap: 'rm object', meanwhile: 'ln /shared/others/root-file object' },
  'read hidden': { swap: link(`${others}/root-hidden`) },
  'read-only hidden': { swap: link(`${others}/closed/hidden`) },
  'read-only': { swap: link(`${others}/root-file`) },
  'write': { swap: link(`${others}/root-write`) },
  'append': { swap: link(`${others}/root-append`) },
  'mapped': { swap: link(`${others}/root-mapped`) },
  'private-mapping': { swap: link(`${others}/root-file`) },
  'below-directory': { swap: link(`${others}/closed`) },
  'closed-directory': { swap: 'true', meanwhile: `cp --preserve=mode,ownership ${others}/open/file ${others}/new && printf %-${page}s ${secret} > ${others}/new && mv ${others}/new ${others}/open/file && chmod 700 ${others}/open` },
  'directory': { swap: link(`${others}/closed`) },
  'working-directory': { swap: link(`${others}/closed`) },
  'fifo': { swap: link(`${others}/root-fifo`) },
  'socket': { swap: link(`${others}/roots`) },
  'deleted': { swap: link(`${others}/roots`) },
  'deleted-name': { swap: link(`${others}/roots`) },
} as const satisfies Record<string, Attack>

/** What alice gets by one of them. */
interface Outcome {
  readonly output: string
  /** All that she is told. */
  readonly told: string
}

/** Saves a job, replaces what it holds, and lets it go on. Ends when it has gone on, or will not. */
async function attack(name: keyof typeof attacks): Promise<Outcome> {
  const { swap, meanwhile }: Attack = attacks[name]
  const directory = await workDirectory()
  const job = await submit({
    directory, options: '--stint=norollback=** --time=10', environment: { OTHERS: others },
    script: `#!/bin/bash\nexec python3 ${fixtures}/programs/reopened.py ${name.split(' ')[0] ?? ''}\n`,
  })
  const node = await untilRunning(job, 0, 120)
  await untilState(node, job, 'running')
  await until(`${name} is ready`, 60, async () => (await tryOn('ctl', `test -e ${directory}/ready`)).exitCode === 0)
  const saved = await tryOn(node, `stint checkpoint ${job}`, { user: 'alice' })
  if (saved.exitCode !== 0) throw new Error(`${name}: not saved: ${saved.stderr}`)
  await on('ctl', `cd ${directory} && ${swap}`, { user: 'alice' })
  if (meanwhile !== undefined) await on('ctl', `cd ${directory} && ${meanwhile}`)
  await on('ctl', `touch ${directory}/go`, { user: 'alice' })
  await until(`${name} has gone on or is held`, 90, async () => (
    /^RESULT/m.test(await printed(directory)) || /could not be (restored|continued)/.test(await printed(directory, 'err.txt'))
  ))
  const runs = await Promise.all(['n1', 'n2', 'n3', 'n4', 'n5'].map(async (n) => status(n, job)))
  const told = `${await printed(directory, 'err.txt')}\n${JSON.stringify(runs)}\n${(await showJob(job)).get('Comment') ?? ''}`
  await on('ctl', `scancel ${job}`)
  return { output: await printed(directory), told }
}

describe('a restore, of what the user has replaced', () => {
  let outcomes: Record<keyof typeof attacks, Promise<Outcome>>
  let before: string

  /** Contents, modes, owners and times of all that is not alice's. */
  async function seen(): Promise<string> {
    return on('ctl', `cd ${others} && find . -mindepth 1 -not -path './open*' -printf '%p %m %u %g %s %T@\\n' | sort && sha256sum root-[!f]* root-file bob-file closed/*`)
  }

  beforeAll(async () => {
    await on('ctl', `rm -rf ${others} && mkdir -p ${others}/closed ${others}/roots ${others}/open && cd ${others} && umask 077
      printf %-${page}s ${secret} | tee root-file root-write root-append root-mapped bob-file closed/file > closed/${secret}
      printf %-${hiddenBytes}s ${secret} | tee root-hidden > closed/hidden
      chmod 640 root-hidden
      printf %-${page}s own > open/file; chmod 644 open/file
      mkfifo root-fifo; chown bob: bob-file open open/file; chmod 700 closed; chmod 755 roots open`)
    before = await seen()
    outcomes = begin(Object.fromEntries(Object.keys(attacks).map((name) => [name, async () => attack(name as keyof typeof attacks)])) as Record<keyof typeof attacks, () => Promise<Outcome>>)
  }, 60_000)

  test.each(Object.keys(attacks) as (keyof typeof attacks)[])('reaches nothing by %s', async (name) => {
    const { output, told } = await outcomes[name]
    expect(output).not.toContain(secret)
    expect(output).not.toMatch(/RESULT bound/)
    expect(told).not.toContain(secret)
    if (name.includes('hidden')) expect(told).not.toMatch(new RegExp(`${hiddenBytes}|0?640`))
    if (name.startsWith('write') || name === 'append' || name === 'mapped') expect(output).not.toMatch(/RESULT (11|None)$/m)
  }, 180_000)

  test('leaves everything of others as it was', async () => {
    await Promise.allSettled(Object.values(outcomes))
    expect(await seen()).toBe(before)
  }, 180_000)
})

describe('a checkpoint and a restore', () => {
  test('give another process of the user neither a signal, nor memory, nor a descriptor of an image', async () => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: '--stint --time=10 --nodelist=n1', script: `#!/bin/bash
exec python3 -c "import time
held = [open(str(n), 'w+') for n in range(20)]
for file in held: file.write('x' * 100000), file.flush()
pages = bytearray(b'x') * 30_000_000
open('ready', 'w').close()
time.sleep(100)"
` })
    await untilState('n1', job, 'running')
    await until('the job is ready', 60, async () => (await tryOn('n1', `test -e ${directory}/ready`)).exitCode === 0)
    const grab = tryOn('n1', `timeout 120 python3 ${fixtures}/programs/grab.py ${directory}/over > ${directory}/grab.txt`, { user: 'alice' })
    await until('the attack has begun', 30, async () => (await printed(directory, 'grab.txt')) !== '')
    await on('n1', `stint checkpoint --keep-running ${job}`)
    await on('n1', `stint checkpoint ${job}`)
    await untilRunning(job, 1)
    await untilState('n1', job, 'running')
    await on('ctl', `scancel ${job}; touch ${directory}/over`)
    await grab
    const told = await printed(directory, 'grab.txt')
    // A restored task writes to CRIU's log until it is about to go on, with the user's identity already: docs/reference/capabilities.md.
    expect(told.split('\n').filter((line) => line.startsWith('GOT') && !line.includes('/restore.log'))).toEqual([])
    expect(told).toMatch(/^SEEN criu .*stint-init/m)
  }, 180_000)
})
