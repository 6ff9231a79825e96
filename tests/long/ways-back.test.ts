import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { fixtures, on, printed, putCriuBack, replaceCriu, showJob, status, submit, until, untilEnded, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000
const numbers = (from: number, to: number): string => Array.from({ length: to - from + 1 }, (_, i) => String(from + i)).join('\n')

/** Counts until the file `go` is there; a `crash` makes it do what follows at once. */
function counter(crash: string, end = 'exit 3'): string {
  return `#!/bin/bash\ni=0\nwhile [ ! -e go ]; do [ ! -e crash ] || { ${crash}; }; echo $((++i)); sleep 0.2; done\n${end}\n`
}

interface Started { readonly job: number; readonly node: string; readonly directory: string }

async function start(script: string, options = ''): Promise<Started> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 --exclude=n4,n5 ${options}`, script })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, 'sleep 1')
  return { job, node, directory }
}

async function touch({ directory }: Started, name: string): Promise<void> {
  await on('ctl', `touch ${directory}/${name}`, { user: 'alice' })
}

/** Ends a stint with a checkpoint; returns once the job waits. */
async function save(job: number, node: string): Promise<void> {
  await on(node, `stint checkpoint ${job}`)
  await until(`job ${job} is requeued`, 20, async () => (await showJob(job)).get('JobState') === 'PENDING')
}

/** Waits until a job is held; returns the comment that its owner sees in squeue. */
async function untilHeld(job: number, seconds: number): Promise<string> {
  await until(`job ${job} is held`, seconds, async () => {
    const fields = await showJob(job)
    return fields.get('JobState') === 'PENDING' && fields.get('Priority') === '0' && (await on('ctl', `squeue -h -j ${job} -o %k`)).includes('E_')
  })
  return on('ctl', `squeue -h -j ${job} -o %k`, { user: 'alice' })
}

/** What the nodes have on record of a job's failed restores, by time. */
async function failures(job: number): Promise<{ node: string; checkpoint: number; code: string }[]> {
  const found = await Promise.all(['n1', 'n2', 'n3'].map(async (node) => ((await status(node, job))?.events ?? []).filter((event) => event.kind === 'restore-failed').map((event) => ({ ...event, node }))))
  return found.flat().toSorted((a, b) => a.at - b.at).map(({ node, detail }) => ({ node, checkpoint: Number(detail['checkpoint']), code: String(detail['code']) }))
}

const codes = async (job: number): Promise<string[]> => (await failures(job)).map(({ checkpoint, code }) => `${checkpoint} ${code}`)

/** Two checkpoints: the first made by the way, the second ends the stint. */
async function savedTwice(started: Started): Promise<void> {
  await on(started.node, `stint checkpoint --keep-running ${started.job}`)
  await save(started.job, started.node)
}

/** One byte in the middle of a file below the image of a checkpoint. */
async function flip(job: number, checkpoint: number, file: string): Promise<void> {
  await on('ctl', `f=$(echo /shared/stint/${job}/*/000${checkpoint}/m0/${file}); at=$(($(stat -c %s $f) / 2)); b=$(od -An -tu1 -j$at -N1 $f); printf "\\\\x$(printf %x $((b ^ 1)))" | dd of=$f bs=1 seek=$at conv=notrunc status=none`)
}

/** Saved on a node whose CPU has, by its record, what none has. */
async function saveOnNewerCpu(): Promise<Started> {
  const started = await start(counter('true'), '--nodelist=n3')
  const record = '/var/lib/stint/cpu/cpuinfo.img'
  await on('n3', `cp ${record} /tmp/cpuinfo.img && python3 ${fixtures}/programs/newer-cpu.py ${record}`)
  await save(started.job, started.node)
  await on('n3', `cp /tmp/cpuinfo.img ${record}`)
  await on('ctl', `scontrol update jobid=${started.job} nodelist=`)
  return started
}

const nodes = ['n1', 'n2', 'n3']

/** Saved; CRIU finds nothing wrong with these CPUs, so it is made to say so of the first two nodes that this job comes to. */
async function saveForOneNode(): Promise<Started> {
  const started = await start(counter('true'), '--nodelist=n1')
  const refuse = `#!/bin/bash
case "$*" in *"cpuinfo check"*/${started.job}/*)
  if [ "$(ls -d ${started.directory}/refused.* 2>/dev/null | wc -l)" -lt 2 ]; then
    mkdir ${started.directory}/refused.$(hostname)
    echo "Error (criu/arch/x86/cpu.c:293): CPU instruction capabilities do not match run time" >&2
    exit 1
  fi ;;
esac
exec /usr/sbin/criu.real "$@"
`
  for (const node of nodes) await replaceCriu(node, refuse)
  await save(started.job, started.node)
  await on('ctl', `scontrol update jobid=${started.job} nodelist=`)
  return started
}

let onNewerCpu: Started
let forOneNode: Started

/** These run beside each other: each waits for Slurm most of the time. */
const scenarios = {
  async fitsNowhere() {
    const { job } = onNewerCpu
    return { comment: await untilHeld(job, 150), tried: await failures(job) }
  },
  async fitsOneNode() {
    const node = await untilRunning(forOneNode.job, 3, 150)
    await untilState(node, forOneNode.job, 'running')
    const tried = await failures(forOneNode.job)
    await touch(forOneNode, 'go')
    return { node, tried, end: (await untilEnded(forOneNode.job, 60)).get('ExitCode') }
  },
  /** The program crashes after every restore, on the only node it may have. */
  async crashHere() {
    const started = await start(counter('kill -SEGV $$'), '--nodelist=n1')
    await savedTwice(started)
    await touch(started, 'crash')
    const comment = await untilHeld(started.job, 150)
    const tried = await codes(started.job)
    const restarts = (await showJob(started.job)).get('Restarts')
    await on('ctl', `rm ${started.directory}/crash && touch ${started.directory}/go && scontrol release ${started.job}`)
    return { comment, tried, restarts, end: (await untilEnded(started.job, 60)).get('ExitCode') }
  },
  /** The same by a child of the script, which tells of it with its exit code; any node will do. */
  async crashEverywhere() {
    const started = await start(counter('bash -c "kill -ILL \\$\\$"; exit $?'))
    await savedTwice(started)
    await touch(started, 'crash')
    return { comment: await untilHeld(started.job, 150), tried: await failures(started.job), fields: await showJob(started.job) }
  },
  async exitsByItself() {
    const started = await start(counter('exit 5'))
    await savedTwice(started)
    await touch(started, 'crash')
    const fields = await untilEnded(started.job, 60)
    return [fields.get('JobState'), fields.get('ExitCode'), fields.get('Restarts')]
  },
  async damagedOnly() {
    const started = await start(counter('true'))
    await save(started.job, started.node)
    await flip(started.job, 1, 'criu/pages-1.img')
    return { comment: await untilHeld(started.job, 60), restarts: (await showJob(started.job)).get('Restarts') }
  },
  async damagedAndAfresh() {
    const started = await start(counter('true'), '--stint=fallback=start')
    await save(started.job, started.node)
    await flip(started.job, 1, 'criu/pages-1.img')
    const node = await untilRunning(started.job, 2)
    await untilState(node, started.job, 'running')
    await on('ctl', 'sleep 1')
    await touch(started, 'go')
    return { end: (await untilEnded(started.job, 60)).get('ExitCode'), output: await printed(started.directory), errors: await printed(started.directory, 'err.txt') }
  },
}

/** Each of these files of the newest checkpoint gets one flipped byte. */
const damagedFiles = ['manifest.json', 'tree.tar', 'script', 'criu/pages-1.img', 'criu/core-1000.img']

async function goOnFromTheOlder(file: string) {
  const started = await start(counter('true'))
  await savedTwice(started)
  await flip(started.job, 2, file)
  const node = await untilRunning(started.job, 1)
  await untilState(node, started.job, 'running')
  const tried = await codes(started.job)
  // The next one takes a number of its own, and the damaged one goes: the two that are left can be restored.
  await on(node, `stint checkpoint --keep-running ${started.job}`)
  const left = (JSON.parse(await on(node, `stint images ${started.job} --json`)) as { checkpoint: number }[]).map((image) => image.checkpoint)
  const directories = await on('ctl', `ls /shared/stint/${started.job}/*`)
  await touch(started, 'go')
  return { tried, left, directories, end: (await untilEnded(started.job, 60)).get('ExitCode'), errors: await printed(started.directory, 'err.txt') }
}

type Outcome<K extends keyof typeof scenarios> = Awaited<ReturnType<(typeof scenarios)[K]>>
const running = new Map<string, Promise<unknown>>()
const outcome = async <K extends keyof typeof scenarios>(name: K): Promise<Outcome<K>> => running.get(name) as Promise<Outcome<K>>

/** So many at once; more would be slow for the machine, not for Slurm. */
const atOnce = 6

beforeAll(async () => {
  [onNewerCpu, forOneNode] = await Promise.all([saveOnNewerCpu(), saveForOneNode()])
  const plays: [string, () => Promise<unknown>][] = [...Object.entries(scenarios), ...damagedFiles.map((file): [string, () => Promise<unknown>] => [file, async () => goOnFromTheOlder(file)])]
  const lanes: Promise<unknown>[] = Array.from({ length: atOnce }, async () => undefined)
  for (const [n, [name, play]] of plays.entries()) {
    const played = (lanes[n % atOnce] ?? Promise.resolve()).then(play)
    running.set(name, played)
    lanes[n % atOnce] = played.catch(() => undefined) // Its test awaits it.
  }
}, minute)

afterAll(async () => {
  await Promise.allSettled(running.values())
  for (const node of nodes) await putCriuBack(node).catch(() => undefined)
  await on('ctl', 'scancel -u alice')
}, 4 * minute)

describe('a program that crashes right after every restore', () => {
  test('is tried as often as configured from each checkpoint, then held with the reason where its owner sees it; released it goes on', async () => {
    const { comment, tried, restarts, end } = await outcome('crashHere')
    expect(comment).toMatch(/E_CRASHED: the program crashed \(signal 11\) right after checkpoint \d was restored on n1/)
    expect(tried.filter((one) => one.endsWith('E_CRASHED'))).toEqual(['2 E_CRASHED', '2 E_CRASHED', '2 E_CRASHED', '1 E_CRASHED', '1 E_CRASHED', '1 E_CRASHED'])
    expect(restarts).toBe('2') // One for the checkpoint, one for the hold: all was tried in one allocation.
    expect(end).toBe('3:0')
  }, 4 * minute)

  test('is tried on other nodes first where it may have any', async () => {
    const { comment, tried, fields } = await outcome('crashEverywhere')
    expect(comment).toMatch(/E_CRASHED/)
    const newest = tried.filter((one) => one.checkpoint === 2 && one.code === 'E_CRASHED')
    expect(new Set(newest.map((one) => one.node)).size).toBe(3)
    expect(newest).toHaveLength(3)
    expect(tried.filter((one) => one.checkpoint === 1 && one.code === 'E_CRASHED')).toHaveLength(3)
    expect(fields.get('Restarts')).toBe('4')
  }, 4 * minute)

  test('ends its job when it exits by itself, whatever the code', async () => {
    expect(await outcome('exitsByItself')).toEqual(['FAILED', '5:0', '1'])
  }, 4 * minute)
})

describe('one flipped byte', () => {
  test.each(damagedFiles)('in %s of the newest checkpoint is found and told; the job goes on from the one before', async (file) => {
    const { tried, left, directories, end, errors } = await (running.get(file) as ReturnType<typeof goOnFromTheOlder>)
    expect(tried).toEqual(['2 E_IMAGE_DAMAGED'])
    expect(errors).toMatch(/checkpoint 2 could not be restored on n\d: E_IMAGE_DAMAGED/)
    expect(errors).toMatch(/continued from checkpoint 1/)
    expect(left).toEqual([3, 1])
    expect(directories.split('\n').toSorted()).toEqual(['0001', '0003'])
    expect(end).toBe('3:0')
  }, 4 * minute)

  test('in any file of an image is found', async () => {
    const { job, node, directory } = await start(counter('true'))
    await on(node, `stint checkpoint --keep-running ${job}`)
    const lines = (await on(node, `/opt/stint/node_modules/.bin/node --no-warnings ${fixtures}/programs/flip-every-file.ts /shared/stint ${job}`)).split('\n')
    const [untouched, ...flipped] = lines
    expect(untouched).toBe('untouched whole')
    const names = flipped.map((line) => line.split(' ')[0])
    for (const name of ['manifest.json', 'tree.tar', 'script', 'criu/pages-1.img', 'criu/pagemap-1000.img', 'criu/core-1000.img', 'criu/mm-1000.img', 'criu/files.img', 'criu/inventory.img', 'criu/cpuinfo.img']) expect(names).toContain(name)
    expect(flipped.filter((line) => !/ E_IMAGE_DAMAGED$/.test(line))).toEqual(['manifest.json unreadable 1'])
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
  }, 4 * minute)

  test('in the only checkpoint holds the job, in its first restart; with fallback=start it runs from the start instead', async () => {
    expect(await outcome('damagedOnly')).toEqual({ comment: expect.stringContaining('E_IMAGE_DAMAGED: criu/pages-1.img of checkpoint 1'), restarts: '2' })
    const { end, output, errors } = await outcome('damagedAndAfresh')
    expect(errors).toMatch(/no checkpoint can be restored; the job runs from the start, as it asked for/)
    const lines = output.split('\n')
    const again = lines.lastIndexOf('1')
    expect(again).toBeGreaterThan(0)
    expect(lines.slice(again).join('\n')).toBe(numbers(1, lines.length - again))
    expect(end).toBe('3:0')
  }, 4 * minute)
})

describe('CPUs that differ', () => {
  test('a program that may use what no node has is held with the reason, after each node was tried once', async () => {
    const { comment, tried } = await outcome('fitsNowhere')
    expect(comment).toMatch(/E_CPU_UNFIT: this node's CPU lacks what the program may use: .*CPU instruction capabilities do not match/)
    expect(tried.map(({ node }) => node).toSorted()).toEqual(['n1', 'n2', 'n3'])
  }, 4 * minute)

  test('a node that does not fit is left for one that does', async () => {
    const { node, tried, end } = await outcome('fitsOneNode')
    expect(tried.map(({ code }) => code)).toEqual(['E_CPU_UNFIT', 'E_CPU_UNFIT'])
    expect(new Set([...tried.map((one) => one.node), node]).size).toBe(3)
    expect(end).toBe('3:0')
  }, 4 * minute)
})
