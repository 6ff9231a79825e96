import { execa } from 'execa'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** The virtual cluster, or the booted machine that takes the same commands (STINT_TEST_MACHINE=vm), as tests use it. */

const isEmulated = process.env['STINT_TEST_MACHINE'] === 'vm'
export const clusterCommand = join(import.meta.dirname, '..', ...(isEmulated ? ['vm', 'vm'] : ['cluster', 'cluster']))
/** Software emulation is slow, and slower when the machine below has other work: no test may fail for that. */
const patience = isEmulated ? 4 : 1
/** Fixtures as every node sees them. */
export const fixtures = '/opt/stint/tests/fixtures'

export interface Output {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export async function cluster(...args: string[]): Promise<Output> {
  const result = await execa(clusterCommand, args, { reject: false, stdin: 'ignore' })
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr }
}

export interface ExecOptions {
  readonly user?: 'alice' | 'bob' | 'root'
  readonly input?: string
}

/** Runs a shell command on a node; never throws for its exit code. */
export async function tryOn(node: string, command: string, options: ExecOptions = {}): Promise<Output> {
  const user = options.user ?? 'root'
  const args = ['exec', node, ...(user === 'root' ? [] : ['--user', user]), '--', 'bash', '-c', command]
  const result = await execa(clusterCommand, args, { reject: false, ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }) })
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr }
}

/** Runs a shell command on a node and returns what it prints. @throws Error when it fails */
export async function on(node: string, command: string, options: ExecOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await tryOn(node, command, options)
  if (exitCode !== 0) throw new Error(`on ${node}: ${command}\nexit ${exitCode}\n${stdout}\n${stderr}`)
  return stdout
}

let serial = 0

/** A fresh directory in a user's home on the shared file system. */
export async function workDirectory(user: 'alice' | 'bob' = 'alice'): Promise<string> {
  const path = `/shared/home/${user}/t${process.pid}-${Date.now()}-${serial++}`
  await on('ctl', `mkdir ${path}`, { user })
  return path
}

export interface SubmitOptions {
  readonly user?: 'alice' | 'bob'
  readonly directory: string
  /** Options of sbatch; `--stint` is not added by itself. */
  readonly options: string
  readonly environment?: Readonly<Record<string, string | number>>
  /** A script's text, or the name of a fixture below jobs/. */
  readonly script: string
}

/** Submits a batch job and returns its id. */
export async function submit(job: SubmitOptions): Promise<number> {
  const exports = Object.entries({ FIXTURES: fixtures, ...job.environment }).map(([key, value]) => `export ${key}='${value}'`).join('; ')
  const isText = job.script.includes('\n')
  const file = isText ? '' : ` ${fixtures}/jobs/${job.script}`
  const text = await on('ctl', `${exports}; cd ${job.directory} && sbatch --parsable --output=out.txt --error=err.txt ${job.options}${file}`, {
    user: job.user ?? 'alice', ...(isText ? { input: job.script } : {}),
  })
  return Number(text.trim())
}

/** What a job has printed so far, or written to another file of its directory; empty where there is no such file: slurmstepd makes it after slurmctld has called the job running. */
export async function printed(directory: string, file = 'out.txt'): Promise<string> {
  return on('ctl', `cat ${directory}/${file} 2>/dev/null || true`)
}

/** Waits until a job has printed something that matches. */
export async function untilPrinted(directory: string, pattern: RegExp, seconds: number, file = 'out.txt'): Promise<void> {
  await until(`${directory}/${file} has ${pattern}`, seconds, async () => pattern.test(await printed(directory, file)))
}

/** What Slurm says of a job, by the names of `scontrol show job`. */
export type JobFields = ReadonlyMap<string, string>

/** A line of `scontrol show job -o`. */
function jobFields(line: string): JobFields {
  return new Map([...line.matchAll(/(?:^|\s)([A-Za-z/:_]+)=(\S*)/g)].map((m) => [m[1] ?? '', m[2] ?? ''] as const))
}

/** A job's fields as `scontrol show job` has them. */
export async function showJob(job: number): Promise<JobFields> {
  return jobFields(await on('ctl', `scontrol show job -o ${job}`))
}

/** The same of every job that Slurm knows: one that has been over for MinJobAge it does not. */
export async function showJobs(): Promise<ReadonlyMap<number, JobFields>> {
  const lines = (await on('ctl', 'scontrol show job -o')).split('\n')
  return new Map(lines.map(jobFields).map((fields) => [Number(fields.get('JobId')), fields] as const))
}

/** Nodes of a job's allocation, batch host first. */
export async function nodesOf(job: number): Promise<string[]> {
  return (await on('ctl', `scontrol show hostnames "$(scontrol show job -o ${job} | grep -o ' NodeList=[^ ]*' | cut -d= -f2)"`)).split('\n')
}

/** Looks until `found` returns something, the longer it takes the less often: looking takes the processor away from what is waited for. @throws Error with `what` after `seconds`, or a multiple of them where the machine is emulated */
export async function until<T>(what: string, seconds: number, found: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + seconds * 1000 * patience
  for (let pause = 200; ; pause = Math.min(pause * 1.2, 1000)) {
    const value = await found()
    if (value !== undefined && value !== false) return value
    if (Date.now() > end) throw new Error(`not within ${seconds * patience} s: ${what}`)
    await sleep(pause * patience)
  }
}

/** Does the same with every item at the same time, waits for all of them. @throws Error with every failure and its item */
export async function atOnce<T>(items: readonly T[], act: (item: T, index: number) => Promise<void>): Promise<void> {
  const outcomes = await Promise.allSettled(items.map(async (item, index) => act(item, index)))
  const failures = outcomes.flatMap((outcome, index) => (outcome.status === 'rejected' ? [`${JSON.stringify(items[index])}: ${String(outcome.reason)}`] : []))
  if (failures.length > 0) throw new Error(failures.join('\n'))
}

/** Begins all at the same time; each test awaits its own, and the failure of one is nobody else's. */
export function begin<W extends Readonly<Record<string, () => Promise<unknown>>>>(work: W): { readonly [K in keyof W]: ReturnType<W[K]> } {
  const entries = Object.entries(work).map(([name, start]) => {
    const promise = start()
    promise.catch(() => undefined) // Seen by the test that awaits it.
    return [name, promise] as const
  })
  return Object.fromEntries(entries) as { readonly [K in keyof W]: ReturnType<W[K]> }
}

/** A script that prints the numbers from 1, one each fifth of a second, and ends with exit code 3: what a disturbed run must reproduce exactly. */
export function counter(steps: number): string {
  return `#!/bin/bash\nfor i in $(seq 1 ${steps}); do echo $i; sleep 0.2; done\nexit 3\n`
}

export const numbers = (steps: number): string => Array.from({ length: steps }, (_, i) => String(i + 1)).join('\n')

const finalStates = new Set(['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'PREEMPTED'])

export function isOver(job: JobFields): boolean {
  return finalStates.has(job.get('JobState') ?? '')
}

/** Waits until a job is over and returns its fields. */
export async function untilEnded(job: number, seconds: number): Promise<JobFields> {
  return until(`job ${job} has ended`, seconds, async () => {
    const fields = await showJob(job)
    return isOver(fields) ? fields : undefined
  })
}

/** Waits until a job runs (its `restarts`-th start or a later one) and returns its node. */
export async function untilRunning(job: number, restarts = 0, seconds = 60): Promise<string> {
  return until(`job ${job} runs with ${restarts} restarts`, seconds, async () => {
    const fields = await showJob(job)
    return fields.get('JobState') === 'RUNNING' && Number(fields.get('Restarts')) >= restarts ? fields.get('BatchHost') : undefined
  })
}

export interface CheckpointJson { number: number; state: string; trigger: string; startedAt: number; bytes: number; seconds: number; frozenMs: number; keepRunning: boolean; error: string | null }
export interface RunJson {
  job: number
  node: string | null
  nodes: string[]
  state: string
  error: string | null
  savedAt: number | null
  walltimeEndsAt: number | null
  plan: { bytes: number; seconds: number; spreadSeconds: number; measured: number } | null
  stints: { node: string; startedAt: number; endedAt: number; checkpoint: number; trigger: string; bytes: number; seconds: number }[]
  checkpoints: CheckpointJson[]
  events: { at: number; kind: string; detail: Record<string, unknown> }[]
}

/** What the command line does, without Node.js: tests ask often, and must leave the machine to the jobs. Prints the status, then the body. */
const askDaemon = String.raw`perl -MSocket -e '
  my ($method, $path, $body) = (@ARGV, "");
  my $daemon; socket($daemon, AF_UNIX, SOCK_STREAM, 0) && connect($daemon, pack_sockaddr_un("/run/stint/stintd.sock")) or exit 1;
  my $type = $body eq "" ? "" : "Content-Type: application/json\r\nContent-Length: " . length($body) . "\r\n";
  syswrite $daemon, "$method $path HTTP/1.0\r\nHost: stint\r\n$type\r\n$body";
  local $/; my ($head, $answer) = split /\r\n\r\n/, <$daemon>, 2;
  $head =~ m{^HTTP/1.1 (\d+) } or exit 1; print "$1\n$answer"'`

/** Asks the daemon of a node for something of its REST API. @throws Error where it does not answer */
export async function ask(node: string, method: 'GET' | 'POST', path: string, body?: unknown): Promise<{ status: number; body: string }> {
  const answer = await on(node, `${askDaemon} ${method} ${path} ${body === undefined ? '' : `'${JSON.stringify(body)}'`}`)
  const end = answer.indexOf('\n')
  return { status: Number(answer.slice(0, end)), body: answer.slice(end + 1) }
}

/** What `stint status JOB --json` prints on a node; undefined when it knows no such run, or is not there. */
export async function status(node: string, job: number): Promise<RunJson | undefined> {
  const answer = await ask(node, 'GET', `/v1/runs/${job}`).catch(() => undefined)
  return answer?.status === 200 ? (JSON.parse(answer.body) as RunJson) : undefined
}

/** Waits until the payload runs in its sandbox on a node (after a restore: until it goes on). */
export async function untilState(node: string, job: number, state: string, seconds = 60): Promise<RunJson> {
  return until(`job ${job} is ${state} on ${node}`, seconds, async () => {
    const run = await status(node, job)
    return run?.state === state ? run : undefined
  })
}

/** Saves a running job, keeps it off some nodes, its batch host if nothing is said, and waits until it goes on elsewhere. @returns its new nodes, batch host first */
export async function move(job: number, batchHost: string, restarts: number, exclude: readonly string[] = [batchHost]): Promise<string[]> {
  await on(batchHost, `stint checkpoint ${job}`)
  await until(`job ${job} is requeued`, 30, async () => (await showJob(job)).get('JobState') === 'PENDING')
  await on('ctl', `scontrol update jobid=${job} excnodelist=${exclude.join(',')}`)
  await untilState(await untilRunning(job, restarts), job, 'running')
  return nodesOf(job)
}

/** Ends the daemon of a node and starts it again, which reads stint.toml and /etc/stint/environment anew; it answers then. @throws Error with what the service says */
export async function restartDaemon(node: string): Promise<void> {
  for (const action of ['stop', 'start']) {
    const { exitCode, stderr } = await cluster('daemon', node, action)
    if (exitCode !== 0) throw new Error(`stintd on ${node}, ${action}: ${stderr}`)
  }
  await until(`stintd on ${node} answers`, 20, async () => (await tryOn(node, 'stint status --json')).exitCode === 0)
}

/** Puts a script in CRIU's place on a node until `putCriuBack`; CRIU itself is /usr/sbin/criu.real meanwhile. */
export async function replaceCriu(node: string, script: string): Promise<void> {
  await on(node, 'cat >/usr/sbin/criu.new && chmod 755 /usr/sbin/criu.new && ln /usr/sbin/criu /usr/sbin/criu.real && mv /usr/sbin/criu.new /usr/sbin/criu', { input: script })
}

export async function putCriuBack(node: string): Promise<void> {
  await on(node, 'mv /usr/sbin/criu.real /usr/sbin/criu')
}

/** Milliseconds that the machine below the nodes needs to start a program: 1 on a quick one, 5 on a slow one. */
export async function programMs(node: string): Promise<number> {
  const milliseconds = await on(node, 'start=$(date +%s%N); for i in $(seq 200); do /bin/true; done; echo $((($(date +%s%N) - start) / 1000000))')
  return Number(milliseconds) / 200
}

/** What of a sandbox is left on a node: processes, cgroups, devices, mounts, files. Empty when nothing is. */
export async function leftovers(node: string, job: number): Promise<string> {
  return on(node, [
    `find /sys/fs/cgroup -path '*/job_${job}' -type d 2>/dev/null`,
    `awk '$5 ~ "/sandboxes/${job}/|slurm-tmp/.*/${job}$"' /proc/self/mountinfo`,
    "ip -o link | grep -o ' st[0-9]*@' || true",
    `ls -d /run/stint/sandboxes/${job} 2>/dev/null || true`,
    "pgrep -a 'stint-init|criu' || true",
    `ls -d /var/spool/slurmd.*/job${String(job).padStart(5, '0')} 2>/dev/null || true`,
  ].join('\n'))
}
