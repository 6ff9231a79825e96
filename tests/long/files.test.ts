import { beforeAll, describe, expect, test } from '@jest/globals'
import { setTimeout as sleep } from 'node:timers/promises'
import { atOnce, cluster, fixtures, on, printed, showJob, status, submit, tryOn, until, untilEnded, untilRunning, workDirectory } from '../support/cluster.ts'

/** Files that a job has open for writing go back with it when it continues from an image of before. */

const minute = 60_000
const nodes = ['n1', 'n2', 'n3']
/** Rounds in which every node crashes once. */
const rounds = 2
const jobCount = 12
/** A crash is answered at once only when the batch job began more than so many seconds before (tests/cluster/README.md). */
const settleSeconds = 22
/** Long enough to be running in the last crash. */
const steps = 1100
const program = (pause: number): string => `python3 ${fixtures}/programs/files.py ${steps} ${pause}`

interface Run { readonly job: number; readonly directory: string }

async function start(): Promise<Run> {
  const directory = await workDirectory()
  return { directory, job: await submit({ directory, options: '--stint --time=30 --open-mode=append', script: `#!/bin/bash\nexec ${program(0.2)}\n` }) }
}

/** What the program leaves: its own account, its output, the names of its files. */
async function outcome(directory: string): Promise<string> {
  return on('ctl', `cd ${directory}; cat result.txt; md5sum out.txt log.txt data.bin mapped.bin state.txt; ls | grep -vE '^(err.txt|wal.db-(wal|shm)|.*stint-aside)$'`)
}

/** Makes images of a running job at random instants until told to stop. */
async function imageNowAndThen(run: Run, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    await sleep(1000 + Math.random() * 6000)
    const fields = await showJob(run.job)
    const node = fields.get('BatchHost')
    // In vain while the job is not running, is being restored or has ended.
    if (fields.get('JobState') === 'RUNNING' && node !== undefined) await tryOn(node, `stint checkpoint --keep-running ${run.job}`)
  }
}

/** Waits until every job has run for a while since its `restarts`-th start. */
async function settle(runs: readonly Run[], restarts: number): Promise<void> {
  await atOnce(runs, async ({ job }) => {
    let node = ''
    // The node it is said to run on may have crashed as well, unseen by Slurm; and it may be being saved whenever one looks.
    await until(`job ${job} goes on and has an image`, 240, async () => {
      node = await untilRunning(job, restarts, 150)
      const run = await status(node, job)
      return ['running', 'dumping'].includes(run?.state ?? '') && run?.checkpoints.some((c) => c.state === 'sealed')
    }).catch(async (cause: unknown) => {
      throw new Error(`${String(cause)}\n${(await tryOn(node, `stint status ${job} 2>&1; scontrol show job ${job}`)).stdout}`, { cause })
    })
  })
  await sleep(settleSeconds * 1000)
}

/** One after the other, as the cluster's command wants it. */
async function crashAll(): Promise<void> {
  for (const node of nodes) {
    await sleep(Math.random() * 4000)
    for (const verb of ['crash', 'boot']) {
      const { exitCode, stderr } = await cluster(verb, node)
      if (exitCode !== 0) throw new Error(`${verb} ${node}: ${stderr}`)
    }
  }
}

describe('jobs that change files in every way, with images now and then, whose nodes crash', () => {
  let undisturbed: string
  let runs: Run[]
  const ends = new Map<Run, ReadonlyMap<string, string>>()

  beforeAll(async () => {
    const plain = await workDirectory()
    await on('ctl', `cd ${plain} && ${program(0.01)} > out.txt`, { user: 'alice' })
    undisturbed = await outcome(plain)
    runs = await Promise.all(Array.from({ length: jobCount }, start))
    let over = false
    const images = Promise.all(runs.map(async (run) => imageNowAndThen(run, () => over)))
    try {
      for (let round = 0; round < rounds; round++) {
        await settle(runs, round)
        await crashAll()
      }
      await Promise.all(runs.map(async (run) => { ends.set(run, await untilEnded(run.job, 240)) }))
    } finally {
      over = true
      await images
    }
  }, 12 * minute)

  // One that is started anew within a round may meet the crash of its next node, too.
  test(`were killed ${rounds * jobCount} times or more, each job in every round and in the middle of its work`, () => {
    expect(rounds * jobCount).toBeGreaterThanOrEqual(20)
    expect(ends.size).toBe(jobCount)
    for (const fields of ends.values()) expect(Number(fields.get('Restarts'))).toBeGreaterThanOrEqual(rounds)
  })

  test('end as a run that nothing disturbed: log, records, mapping, databases, replaced and deleted files', async () => {
    expect(undisturbed).toContain("wal ([('ok',)]")
    for (const [run, fields] of ends) {
      expect(fields.get('ExitCode')).toBe('0:0')
      expect(await outcome(run.directory)).toBe(undisturbed)
    }
  }, minute)

  test('are told what was put back and what was left alone', async () => {
    for (const { job, directory } of runs) {
      const node = (await showJob(job)).get('BatchHost') ?? ''
      const rolledBack = (await status(node, job))?.events.filter((event) => event.kind === 'rolled-back') ?? []
      expect(rolledBack.at(-1)?.detail['files']).toEqual(expect.arrayContaining([`${directory}/data.bin`, `${directory}/wal.db`]))
      expect(await printed(directory, 'err.txt')).not.toMatch(/cannot be put back/)
    }
  }, minute)
})

/** Talks to `stint-init files` on a node as alice. `bind` opens descriptors, like `3<content`. @returns its answers */
async function helper(directory: string, words: readonly string[], bind = ''): Promise<string[]> {
  const input = words.map((word) => `'${word}'`).join(' ')
  return (await on('n1', `cd ${directory} && printf '%s\\0' ${input} | /usr/libexec/stint/stint-init files ${bind} | tr '\\0' '\\n'`, { user: 'alice' })).split('\n')
}

describe('the hands on the files', () => {
  let directory: string
  const at = (name: string): string => `${directory}/${name}`
  const shell = async (command: string): Promise<string> => on('n1', `cd ${directory} && ${command}`, { user: 'alice' })

  beforeAll(async () => { directory = await workDirectory() })

  test('are never root', async () => {
    expect((await tryOn('n1', '/usr/libexec/stint/stint-init files </dev/null')).exitCode).toBe(2)
  }, minute)

  test('give up on half a conversation', async () => {
    for (const text of ['look', 'look\\0/half', 'nonsense\\0', 'a-verb-much-longer-than-any\\0', 'cut\\0/x\\0']) {
      expect((await tryOn('n1', `printf '${text}' | /usr/libexec/stint/stint-init files; exit \${PIPESTATUS[1]}`, { user: 'alice' })).stdout).toBe('')
    }
    expect((await tryOn('n1', "printf 'nonsense\\0' | /usr/libexec/stint/stint-init files", { user: 'alice' })).exitCode).toBe(2)
  }, minute)

  test('copy a file with its holes, whoever else has it open', async () => {
    await shell('truncate -s 50M sparse; printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none; printf end | dd of=sparse bs=1 seek=52428797 conv=notrunc status=none')
    expect(await helper(directory, ['save', '-1', '-1', at('sparse'), at('sparse'), '-1', 'c'], '3>copy')).toEqual([expect.stringMatching(/^saved 52428800 \d+ \d+ 420 copy 0$/)])
    expect(await shell('cmp sparse copy && du -k copy | cut -f1')).toMatch(/^\d{1,3}$/)
  }, minute)

  test('say what they cannot save: unreadable, no longer under its name, a link, too large for a copy', async () => {
    await shell('echo x > secret; chmod 0 secret; echo x > named; ln -s named link; mkdir directory; echo x > other')
    expect(await helper(directory, [
      'save', '-1', '-1', at('secret'), at('secret'), '-1', 'c', 'save', '-1', '-1', at('other'), at('named'), '-1', 'c', 'save', '-1', '-1', at('link'), at('link'), '-1', 'c',
      'save', '-1', '-1', at('directory'), at('directory'), '-1', 'c', 'save', '-1', '-1', at('none'), at('none'), '-1', 'c', 'save', '-1', '-1', at('named'), at('named'), '-1', 'r', 'save', '-1', '-1', at('named'), at('named'), '-1', 'f',
    ], '3>copy')).toEqual([
      'failed Permission denied', 'elsewhere', 'elsewhere', 'elsewhere', 'failed No such file or directory',
      expect.stringMatching(/^saved 2 .* too-large 0$/), expect.stringMatching(/^saved 2 .* none 0$/),
    ])
    expect(await helper(directory, ['save', '-1', '-1', at('named'), at('named'), '-1', 'c'], '3>/dev/full')).toEqual([expect.stringMatching(/^failed /)])
  }, minute)

  test('see files, and what is none', async () => {
    await shell('mkfifo fifo; ln -sfn nowhere dangling')
    expect(await helper(directory, ['look', at('named'), 'look', at('none'), 'look', at('named/below'), 'look', at('link'), 'look', at('dangling'), 'look', at('fifo'), 'look', '/shared/stint/x'])).toEqual([
      expect.stringMatching(/^file 2 \d+ \d+$/), 'missing', 'missing', 'other', 'other', 'other', 'failed Permission denied',
    ])
  }, minute)

  test('cut a log; in the job\'s output the lines of Stint and Slurm stay', async () => {
    await shell("printf 'one\\ntwo\\n' > log; printf 'one\\ntwo stint: no\\nstint: saved\\nthree\\nslurmstepd: error: node\\nhalf stint: x\\nstint: no end' > out.txt")
    expect(await helper(directory, ['cut', at('log'), '4', 'drop', '1000000000', 'cut', at('out.txt'), '6', 'keep', '2000000000'])).toEqual(['done', 'done'])
    expect(await shell('cat log; stat -c %Y log; cat out.txt; stat -c %Y out.txt')).toBe('one\n1\none\ntwstint: saved\nslurmstepd: error: node\n2')
  }, minute)

  test('follow no link and wait for no FIFO', async () => {
    await shell('echo precious > precious; ln -sfn precious swapped')
    for (const verb of [['cut', at('swapped'), '0', 'drop', '1'], ['cut', at('swapped'), '0', 'keep', '1'], ['rewrite', at('swapped'), '3', '0', '2', '1'], ['cut', at('fifo'), '0', 'keep', '1'], ['rewrite', at('fifo'), '3', '0', '2', '1']]) {
      expect(await helper(directory, verb, '3<other')).toEqual([expect.stringMatching(/^failed /)])
    }
    expect(await shell('cat precious')).toBe('precious')
  }, minute)

  test('make a file what it was: changed, grown, shorter, full of data where a hole was; its inode stays', async () => {
    await shell('cp --sparse=always sparse changed; printf XX | dd of=changed bs=1 seek=30000000 conv=notrunc status=none; (cat sparse; echo more) > grown; head -c 1000 sparse > shorter; ls -i changed grown shorter > before')
    for (const name of ['changed', 'grown', 'shorter']) expect(await helper(directory, ['rewrite', at(name), '3', '0', '52428800', '3000000000'], '3<sparse')).toEqual(['done'])
    expect(await shell('for f in changed grown shorter; do cmp sparse $f && stat -c %Y $f; done; ls -i changed grown shorter | cmp - before')).toBe('3\n3\n3')
  }, minute)

  test('leave a file alone that was made read-only, unless it was changed before', async () => {
    await shell('cp named readonly; cp named readonly2; echo changed > readonly2; chmod 444 readonly readonly2')
    expect(await helper(directory, ['rewrite', at('readonly'), '3', '0', '2', '1'], '3<named')).toEqual(['done'])
    expect(await helper(directory, ['rewrite', at('readonly2'), '3', '0', '2', '1'], '3<named')).toEqual([expect.stringMatching(/^failed /)])
  }, minute)

  test('bring a file back, with its directories; what has taken its place keeps its content under its other name', async () => {
    await shell('echo later > later; ln later replaced; ln -sfn precious link2; echo rest > gone.stint-rollback')
    for (const name of ['gone', 'deep/er/gone', 'replaced', 'link2']) expect(await helper(directory, ['create', at(name), '3', '0', '2', '384', '4000000000'], '3<named')).toEqual(['done'])
    expect(await shell('cat later precious; for f in gone deep/er/gone replaced link2; do cmp named $f && stat -c "%F %a %Y" $f; done; ls -R | grep -c stint-rollback || true')).toBe(`later\nprecious\n${'regular file 600 4\n'.repeat(4)}0`)
    expect(await helper(directory, ['create', '/shared/stint/x', '3', '0', '2', '384', '1', 'create', at('n'.repeat(250)), '3', '0', '2', '384', '1', 'create', at('short'), '3', '0', '99', '384', '1'], '3<named')).toEqual(
      [/^failed Permission denied/, /^failed File ?name too long/, /^failed (I\/O|Input\/output) error/].map((why) => expect.stringMatching(why) as unknown),
    )
    expect(await shell('ls short 2>&1 || true')).toMatch(/No such file/)
  }, minute)

  test("give a later journal of SQLite another name, and nobody else's", async () => {
    await shell("python3 -c \"import sqlite3; c = sqlite3.connect('base'); c.execute('create table t(a)')\"; echo later > base-journal; echo later > named-journal")
    expect(await helper(directory, ['aside', at('base'), at('base-journal'), '9000000000000000000', 'aside', at('base'), at('base-journal'), '0', 'aside', at('base'), at('base-wal'), '0', 'aside', at('named'), at('named-journal'), '0'])).toEqual(
      ['none', `moved ${at('base-journal.stint-aside')}`, 'none', 'none'],
    )
  }, minute)

  test('list files that changed since', async () => {
    await shell('mkdir listed; touch listed/a listed/b; mkdir listed/c; ln -s a listed/d')
    expect((await helper(directory, ['news', at('listed'), '0'])).sort()).toEqual(['done', `new ${at('listed/a')}`, `new ${at('listed/b')}`])
    expect(await helper(directory, ['news', at('listed'), '9000000000000000000', 'news', at('nowhere'), '0'])).toEqual(['done', 'failed No such file or directory'])
  }, minute)
})
