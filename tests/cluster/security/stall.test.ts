import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { atOnce, begin, cluster, counter, on, putCriuBack, replaceCriu, restartDaemon, status, submit, tryOn, until, untilRunning, untilState, workDirectory, type Output } from '../../support/cluster.ts'

/**
 * One user cannot bring a node's daemon to a standstill: alice attacks, bob's jobs on the same node are started under Stint and saved
 * meanwhile.
 */

/** Where bob is, too; the other attacks have a node of their own, as each has four CPUs. */
const shared = 'n1'
const other = 'n2'
const minute = 60_000
/** What a dump may take here, seconds. */
const dumpSeconds = 8
const quotaMb = 60

/** Whether a CRIU that waits in its wrapper goes on: names in the sandbox's own /tmp. */
const growing = '[ "$1" = dump ] && [ -e /tmp/ready ] && { touch /tmp/grow; for n in $(seq 100); do [ -e /tmp/grown ] && break; sleep 0.1; done; }\n'
/** A CRIU that is stopped in mid-work. */
const stopping = '[ "$1" = dump ] && [ -e /tmp/stop ] && { (sleep 0.25; kill -STOP $$) & }\n'

const askHealth = 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/run/stint/stintd.sock"); s.sendall(b"GET /v1/health HTTP/1.0\\r\\n\\r\\n"); print(s.makefile().read().split("\\n\\n")[1])'

interface Started { readonly node: string; readonly job: number; readonly directory: string }

async function start(node: string, user: 'alice' | 'bob', script: string, options = ''): Promise<Started> {
  const directory = await workDirectory(user)
  const job = await submit({ user, directory, options: `--stint${options} --time=10 --nodelist=${node}`, script })
  await untilRunning(job)
  return { node, job, directory }
}

function python(program: string): string {
  return `#!/bin/bash\nexec python3 - <<'PROGRAM'\nimport mmap, os, time\n${program}\nopen('ready', 'w').close()\nwhile True:\n    time.sleep(0.1)\nPROGRAM\n`
}

async function untilReady({ node, job, directory }: Started): Promise<void> {
  await until(`${directory}/ready`, 40, async () => (await tryOn(node, `test -e ${directory}/ready`)).exitCode === 0)
  await untilState(node, job, 'running')
}

/** One of bob's jobs from its start to a checkpoint. */
async function lifeOfBob(): Promise<Output> {
  const { node, job } = await start(shared, 'bob', counter(3000))
  await untilState(node, job, 'running', 30)
  const saved = await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'bob' })
  await on('ctl', `scancel ${job}`)
  return saved
}

async function expectUndisturbed(): Promise<void> {
  expect(await lifeOfBob()).toMatchObject({ exitCode: 0 })
  const { loopDelay } = JSON.parse(await on(shared, `python3 -c '${askHealth}'`, { user: 'bob' })) as { loopDelay: { max: number } }
  // A look at half a million files takes half a minute; a flush of the catalogue on a busy disk takes seconds, and is no matter here.
  expect(loopDelay.max).toBeLessThan(15_000)
}

interface Attacks {
  readonly pattern: () => Promise<void>
  readonly descriptors: () => Promise<void>
  readonly stopped: () => Promise<void>
  readonly grown: () => Promise<void>
  readonly mapped: () => Promise<void>
}

/** Nothing that a pattern says keeps the daemon from answering. */
async function pattern(): Promise<void> {
  const started = await start(shared, 'alice', python("held = open('a' * 200, 'w')"), `=norollback=${'**a'.repeat(150)}b`)
  await untilReady(started)
  const { node, job } = started
  expect(await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })).toMatchObject({ exitCode: 0 })
  await expectUndisturbed()
  await on('ctl', `scancel ${job}`)
}

/** Half a million descriptors: too many to look at, and told so. */
async function descriptors(): Promise<void> {
  const started = await start(shared, 'alice', python(`
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
first = os.open('held', os.O_CREAT | os.O_RDWR)
each = min(most - 50, 100_000)
for n in range(each): os.dup(first)
for n in range(500_000 // each):
    if os.fork() == 0: time.sleep(1000)`), '')
  await untilReady(started)
  const { node, job } = started
  const refused = await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })
  expect(refused).toMatchObject({ exitCode: 5, stderr: expect.stringMatching(/E_PREFLIGHT: .*too many/) as unknown })
  await expectUndisturbed()
  await on('ctl', `scancel ${job}`)
}

/** A job whose CRIU is stopped in the middle of a dump, and which prints all the time. */
async function startStopping(): Promise<Started> {
  const started = await start(other, 'alice', python(`
for n in range(150):
    if os.fork() == 0: os.execvp('sleep', ['sleep', '1000'])
open('/tmp/stop', 'w').close()
if os.fork() == 0:
    while True:
        print(time.time(), flush=True); time.sleep(0.2)`))
  await untilReady(started)
  return started
}

async function endRunningOn({ node, job, directory }: Started): Promise<void> {
  await untilState(node, job, 'running')
  const lines = async (): Promise<number> => Number(await on(node, `wc -l <${directory}/out.txt`))
  const before = await lines()
  await until('the job runs on', 20, async () => await lines() > before)
  await on('ctl', `scancel ${job}`)
}

/** A CRIU that is stopped for good ends with its time, and the job runs on. */
async function stopped(): Promise<void> {
  const started = await startStopping()
  const { node, job } = started
  const refused = await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })
  expect(refused).toMatchObject({ exitCode: 6, stderr: expect.stringMatching(/checkpoint\.timeout_seconds/) as unknown })
  await endRunningOn(started)
}

/** A CRIU that is stopped when the daemon dies is woken by the next one, gives the payload up and ends. */
async function orphaned(): Promise<void> {
  const started = await startStopping()
  const { node, job } = started
  const asked = tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })
  const engines = async (): Promise<string> => on(node, "ps -eo stat=,comm= | grep ' criu' || true")
  await until('CRIU is stopped', 20, async () => /^T/m.test(await engines()))
  await cluster('daemon', node, 'kill')
  await asked
  await until('the orphan has ended', 30, async () => await engines() === '')
  await endRunningOn(started)
}

/** What grows after it was looked at does not pass the quota. */
async function grown(): Promise<void> {
  const started = await start(other, 'alice', python(`
held = open('held', 'w+b'); os.unlink('held')
if os.fork() == 0:
    while not os.path.exists('/tmp/grow'): time.sleep(0.05)
    for n in range(100): held.write(b'x' * 2 ** 20)
    held.flush(); open('/tmp/grown', 'w').close(); time.sleep(1000)
open('/tmp/ready', 'w').close()`))
  await untilReady(started)
  const { node, job } = started
  const most = on(node, `most=0; for n in $(seq 150); do now=$(du -sm /shared/stint/${job} 2>/dev/null | cut -f1); [ "\${now:-0}" -gt $most ] && most=$now; sleep 0.1; done; echo $most`)
  const refused = await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })
  expect(refused).toMatchObject({ exitCode: 7, stderr: expect.stringMatching(/E_STORE_QUOTA: .*grew beyond/) as unknown })
  expect(Number(await most)).toBeLessThan(2 * quotaMb)
  await untilState(node, job, 'running')
  expect((await status(node, job))?.checkpoints.map(({ state }) => state)).toEqual(['aborted'])
  await on('ctl', `scancel ${job}`)
}

/** A deleted file that is mapped and closed is written, too, and so is predicted. */
async function mapped(): Promise<void> {
  const started = await start(other, 'alice', python(`
file = open('held', 'w+b'); file.truncate(100 * 2 ** 20)
memory = mmap.mmap(file.fileno(), 100 * 2 ** 20)
for at in range(0, len(memory), 4096): memory[at] = 1
file.close(); os.unlink('held')`))
  await untilReady(started)
  const { node, job } = started
  const refused = await tryOn(node, `stint checkpoint --keep-running ${job}`, { user: 'alice' })
  expect(refused).toMatchObject({ exitCode: 7, stderr: expect.stringMatching(/E_STORE_QUOTA: the image needs 1\d\d MB/) as unknown })
  await on('ctl', `scancel ${job}`)
}

let attacks: Record<keyof Attacks, Promise<void>>

const nodes = [shared, other]

beforeAll(async () => {
  await atOnce(nodes, async (node) => {
    await on(node, `cp /etc/stint/stint.toml /etc/stint/stint.toml.before; sed -i 's/^path = .*/&\\nuser_quota_gb = ${quotaMb / 1000}/' /etc/stint/stint.toml; printf '\\n[checkpoint]\ntimeout_seconds = ${dumpSeconds}\\n' >>/etc/stint/stint.toml`)
    await replaceCriu(node, `#!/bin/sh\n${growing}${stopping}exec /usr/sbin/criu.real "$@"\n`)
    await restartDaemon(node)
  })
  attacks = begin({ descriptors, stopped, grown, mapped, pattern } satisfies Attacks)
}, minute)

afterAll(async () => {
  await tryOn('ctl', 'scancel --user=alice; scancel --user=bob')
  await atOnce(nodes, async (node) => {
    await putCriuBack(node)
    await on(node, 'mv /etc/stint/stint.toml.before /etc/stint/stint.toml')
    await restartDaemon(node)
  })
}, minute)

test('a pattern that could match in many ways is matched in a moment', async () => attacks.pattern, 3 * minute)
test('a job with half a million open files is refused, and nobody waits for it', async () => attacks.descriptors, 3 * minute)
test('a dump whose CRIU is stopped ends with its time limit, and the job runs on', async () => attacks.stopped, 3 * minute)
test('a checkpoint that grows while it is written stays within the quota', async () => attacks.grown, 3 * minute)
test('deleted files that are mapped and closed count before anything is written', async () => attacks.mapped, 3 * minute)
test('a CRIU that is stopped when the daemon dies is ended by the next one, and the job runs on', async () => {
  await Promise.allSettled(Object.values(attacks))
  await orphaned()
}, 3 * minute)
