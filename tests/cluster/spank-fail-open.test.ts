import { afterAll, beforeAll, describe, expect } from '@jest/globals'
import { setTimeout as sleep } from 'node:timers/promises'
import { atOnce, cluster, leftovers, on, printed, submit, until, untilEnded, untilPrinted, workDirectory } from '../support/cluster.ts'
import { FakeDaemon, fakeDaemonLog as log } from '../support/fake-daemon.ts'
import { testOnLanes } from '../support/lanes.ts'

/** The Slurm plugin against a daemon that is absent, slow or faulty: the job must run, whole and with its own exit code. */

/** Their daemons are stopped meanwhile. */
const nodes = ['n2', 'n3', 'n4', 'n5']
const minute = 60_000
const withoutCheckpoints = 'stint: the daemon does not answer on this node; the job runs without checkpoints'

/** Does something while a stand-in with this behaviour listens. */
async function withDaemon<T>(node: string, behaviour: string, action: () => Promise<T>, ...words: string[]): Promise<T> {
  const daemon = await FakeDaemon.start(node, behaviour, ...words)
  try {
    return await action()
  } finally {
    await daemon[Symbol.asyncDispose]()
  }
}

/** Tells where it runs, and how long after the job's start, and ends with 3; `body` may make it longer. */
function script(body = ''): string {
  return `#!/bin/bash\necho $(($(date +%s) - SLURM_JOB_START_TIME)) >waited.txt\nreadlink /proc/self/ns/pid\necho "fake=$STINT_FAKE"\n${body}\nexit 3\n`
}

interface Ended { exitCode: string; out: string[]; err: string[]; waitedSeconds: number; job: number }

async function ended(job: number, directory: string): Promise<Ended> {
  const fields = await untilEnded(job, 60)
  const read = async (name: string): Promise<string[]> => (await printed(directory, name)).split('\n').filter((line) => line !== '')
  // A script that never started has not written it: NaN.
  const waited = await printed(directory, 'waited.txt')
  return { exitCode: fields.get('ExitCode') ?? '', out: await read('out.txt'), err: await read('err.txt'), waitedSeconds: waited === '' ? NaN : Number(waited), job }
}

async function run(node: string, body = ''): Promise<Ended> {
  const directory = await workDirectory()
  return ended(await submit({ directory, options: `--stint --time=5 --nodelist=${node}`, script: script(body) }), directory)
}

const untilTold = 'until [ -e told ]; do sleep 0.1; done'

/** Starts a job in the stand-in's sandbox; it has said "ready" then. `tell` ends what waits `untilTold`; `end` waits for the job's end. */
async function start(node: string, body: string): Promise<{ job: number; directory: string; tell: () => Promise<void>; end: () => Promise<Ended> }> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=5 --nodelist=${node}`, script: script(body) })
  await untilPrinted(directory, /ready/, 20)
  return { job, directory, tell: async () => { await on('ctl', `touch ${directory}/told`) }, end: () => ended(job, directory) }
}

async function expectPlain(node: string, result: Ended, lines: string[]): Promise<void> {
  expect(result.exitCode).toBe('3:0')
  expect(result.out).toEqual([await on(node, 'readlink /proc/1/ns/pid'), 'fake='])
  expect(result.err).toEqual(lines)
  await expectNothingLeft(node, result.job)
}

async function expectInSandbox(node: string, result: Ended, exitCode: string): Promise<void> {
  expect(result.exitCode).toBe(exitCode)
  expect(result.out[0]).not.toBe(await on(node, 'readlink /proc/1/ns/pid'))
  expect(result.out[1]).toBe('fake=1')
  await expectNothingLeft(node, result.job)
}

async function expectNothingLeft(node: string, job: number): Promise<void> {
  await until('nothing is left behind', 5, async () => (await leftovers(node, job)) === '')
}

beforeAll(async () => { await atOnce(nodes, async (node) => { await cluster('daemon', node, 'stop') }) }, minute)
const test = testOnLanes(nodes)

afterAll(async () => {
  await atOnce(nodes, async (node) => {
    await on(node, `rm -f ${log}`)
    await cluster('daemon', node, 'start')
  })
}, minute)

describe('before the sandbox stands', () => {
  test('without a socket the job runs plain, with one line about it', async (node) => {
    await on(node, 'rm -f /run/stint/sandbox.sock')
    await expectPlain(node, await run(node), [withoutCheckpoints])
  }, minute)

  test('a stale socket nobody listens on is as none', async (node) => {
    await on(node, 'python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'/run/stint/sandbox.sock\')"')
    await expectPlain(node, await run(node), [withoutCheckpoints])
  }, minute)

  for (const behaviour of ['silent', 'drip', 'closes', 'cut', 'garbage', 'endless', 'unknown', 'incomplete', 'dies-before-go']) {
    test(`a daemon that is "${behaviour}": the job's script starts, plain, within 8 s of the job`, async (node) => {
      const result = await withDaemon(node, behaviour, () => run(node))
      await expectPlain(node, result, [withoutCheckpoints])
      expect(result.waitedSeconds).toBeLessThan(8)
    }, minute)
  }

  for (const [behaviour, message] of [['refuse', 'not today%'], ['refuses-late', 'changed my mind']] as const) {
    test(`a daemon that ${behaviour}: its reason is the only line`, async (node) => {
      await expectPlain(node, await withDaemon(node, behaviour, () => run(node)), [`stint: ${message}`])
    }, minute)
  }

  test('a mount that fails is named, and the job runs plain', async (node) => {
    await expectPlain(node, await withDaemon(node, 'start', () => run(node), 'hosts=/nonexistent'), ['stint: the sandbox could not be made: mount /etc/hosts: No such file or directory', withoutCheckpoints])
  }, minute)

  for (const behaviour of ['park', 'parks-late']) {
    test(`a daemon that says "${behaviour}": nothing is started, scancel ends the job at once`, async (node) => {
      await using daemon = await FakeDaemon.start(node, behaviour)
      const directory = await workDirectory()
      const job = await submit({ directory, options: `--stint --time=5 --nodelist=${node}`, script: script() })
      await untilPrinted(directory, /stint: /, 20, 'err.txt')
      expect(await on(node, 'pgrep -fc "stint-init parked"')).toBe('1')
      const started = Date.now()
      await on('ctl', `scancel ${job}`)
      await untilEnded(job, 20)
      expect(Date.now() - started).toBeLessThan(8000) // SIGKILL would come after KillWait, 10 s.
      const result = await ended(job, directory)
      expect(result.out).toEqual([])
      expect(await daemon.heard()).toMatch(/^open version=1 step=batch job=\d+ uid=1001 gid=1001 pid=\d+ options= script=\/\S+$/m)
      await expectNothingLeft(node, job)
    }, minute)
  }

  test('a parked job ends by the release with its status', async (node) => {
    await using daemon = await FakeDaemon.start(node, 'park')
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint --time=5 --nodelist=${node}`, script: script() })
    await daemon.untilHeard(/^open/m)
    daemon.say('release status=9')
    expect(await ended(job, directory)).toMatchObject({ exitCode: '9:0', out: [] })
  }, minute)

  test('a job that has a checkpoint is not started afresh: it is held after 30 s; of an array only this task, though its last one has the array\'s id', async (node) => {
    const directory = await workDirectory()
    const job = await submit({ directory, options: `--stint --time=5 --hold --array=0-1 --output=out-%a.txt --error=err-%a.txt --nodelist=${node}`, script: script(untilTold) })
    await on('ctl', `mkdir /shared/stint/${job} && scontrol release ${job}`)
    try {
      await until('the job is held', 60, async () => (await on('ctl', `squeue -h -r -j ${job} -o '%K %r'`)).search(/^1 .*held/im) >= 0)
      expect(await on('ctl', `squeue -h -r -j ${job} -o '%K %t' | sort`)).toBe('0 R\n1 PD')
      expect(await printed(directory, 'out-1.txt')).toBe('')
      expect(await printed(directory, 'err-1.txt')).toMatch(/the job is held: continue it with scontrol release/)
    } finally {
      await on('ctl', `scancel ${job}; rmdir /shared/stint/${job}`)
      await until('the array has ended', 30, async () => (await on('ctl', `squeue -h -j ${job} 2>/dev/null || true`)) === '')
    }
  }, 2 * minute)
})

describe('once the sandbox stands', () => {
  test('the daemon may die for good: the job ends with its own exit code', async (node) => {
    await expectInSandbox(node, await withDaemon(node, 'dies-after-go', () => run(node, 'sleep 2')), '3:0')
  }, minute)

  test('a guard whose daemon came back says who it is', async (node) => {
    const first = await FakeDaemon.start(node, 'start')
    const job = await start(node, `echo ready; ${untilTold}`)
    await first[Symbol.asyncDispose]()
    await using second = await FakeDaemon.start(node, 'start')
    await second.untilHeard(/^attach version=1 mode=start job=\d+ uid=1001 .*state=running$/m)
    await job.tell()
    await expectInSandbox(node, await job.end(), '3:0')
    expect(await second.heard()).toMatch(/^exit status=768$/m)
  }, minute)

  test('a signal that is not answered is delivered after a second, to the script alone as without us', async (node) => {
    await using daemon = await FakeDaemon.start(node, 'mute')
    const job = await start(node, 'trap "echo term; exit 4" TERM; echo ready; for i in $(seq 100); do sleep 0.1; done')
    await on('ctl', `scancel --signal=TERM --batch ${job.job}`)
    const result = await job.end()
    await expectInSandbox(node, result, '4:0')
    expect(result.out.slice(2)).toEqual(['ready', 'term'])
    expect(await daemon.heard()).toMatch(/signal number=15 scope=task$/m)
  }, minute)

  for (const [word, exitCode, out] of [['drop number=15', '3:0', ['ready']], ['unknown', '4:0', ['ready', 'term']]] as const) test(`a daemon that must look first has the time to, but not for ever: ${word}`, async (node) => {
    await using daemon = await FakeDaemon.start(node, 'looks')
    const job = await start(node, 'trap "echo term; exit 4" TERM; echo ready; for i in $(seq 200); do sleep 0.1; done')
    await on('ctl', `scancel --signal=TERM --batch ${job.job}`)
    await daemon.untilHeard(/signal number=15 scope=task$/m)
    await sleep(3000)
    expect(await printed(job.directory)).not.toMatch(/term/)
    daemon.say(word)
    const result = await job.end()
    await expectInSandbox(node, result, exitCode)
    expect(result.out.slice(2)).toEqual(out)
  }, minute)

  test('an answer that comes too late does not deliver the signal twice', async (node) => {
    const result = await withDaemon(node, 'late', async () => {
      const job = await start(node, 'trap "echo usr2" USR2; echo ready; for i in $(seq 80); do sleep 0.1; done')
      await on('ctl', `scancel --signal=USR2 --batch ${job.job}`)
      return job.end()
    })
    expect(result.out.slice(2)).toEqual(['ready', 'usr2'])
    await expectInSandbox(node, result, '3:0')
  }, minute)

  test('the doorbell is for the daemon: a silent one lets no USR1 kill the script', async (node) => {
    await using daemon = await FakeDaemon.start(node, 'mute')
    const job = await start(node, `echo ready; ${untilTold}`)
    await on('ctl', `scancel --signal=USR1 --batch ${job.job}`)
    await daemon.untilHeard(/signal number=10 scope=task/)
    await sleep(2000)
    await job.tell()
    await expectInSandbox(node, await job.end(), '3:0')
  }, minute)

  test('what the daemon drops is not delivered', async (node) => {
    await using daemon = await FakeDaemon.start(node, 'drops')
    const job = await start(node, `echo ready; ${untilTold}`)
    await on('ctl', `scancel --signal=TERM --batch ${job.job}`)
    await daemon.untilHeard(/signal number=15/)
    await sleep(2000)
    await job.tell()
    await expectInSandbox(node, await job.end(), '3:0')
  }, minute)

  test('root killed while held keeps the sandbox until the release; unhold ends it with the status of root', async (node) => {
    await using daemon = await FakeDaemon.start(node, 'start')
    for (const [last, exitCode] of [['release status=0', '0:0'], ['unhold', '0:9']] as const) {
      const job = await start(node, 'echo ready; sleep 60')
      daemon.say('hold')
      await daemon.untilHeard(/^held$/m)
      await on(node, 'pkill -KILL -u alice -f "^stint-init root"; pkill -KILL -u alice -f slurm_script')
      await daemon.untilHeard(/^killed$/m)
      expect(await on('ctl', `squeue -h -j ${job.job} -o %T`)).toBe('RUNNING')
      daemon.say(last)
      await expectInSandbox(node, await job.end(), exitCode)
      await on(node, `: > ${log}`)
    }
  }, minute)

  test('a root that ends soon after a restore, or while the daemon wants to know, is asked about: the daemon says what that was, silence and a lost daemon mean the end', async (node) => {
    for (const [settle, answer, exitCode] of [['restored settle=60', 'end', '3:0'], ['settle seconds=60', 'again\nrelease status=1', '1:0'], ['settle seconds=60', '', '3:0'], ['restored settle=60', undefined, '3:0']] as const) {
      const daemon = await FakeDaemon.start(node, 'start')
      try {
        const job = await start(node, `echo ready; ${untilTold}`)
        daemon.say(settle)
        await sleep(500)
        await job.tell()
        await daemon.untilHeard(/^ended status=768$/m)
        if (answer === undefined) await daemon[Symbol.asyncDispose]()
        else if (answer !== '') daemon.say(answer)
        await expectInSandbox(node, await job.end(), exitCode)
      } finally {
        await daemon[Symbol.asyncDispose]()
      }
    }
  }, 2 * minute)

  test('a guard that is killed takes the whole sandbox with it', async (node) => {
    const result = await withDaemon(node, 'start', async () => {
      const job = await start(node, 'echo ready; setsid sleep 60 & sleep 60')
      await on(node, 'pkill -KILL -f "^stint-init guard"')
      return job.end()
    })
    await expectInSandbox(node, result, '0:9')
  }, minute)
})
