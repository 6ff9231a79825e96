import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { cluster, leftovers, on, tryOn, until, workDirectory, type Output } from '../support/cluster.ts'
import { FakeDaemon, fakeDaemonLog } from '../support/fake-daemon.ts'
import { restoreCapabilities } from '../../plugins/engines/criu/capabilities.ts'
import { dumpArgv, dumpEnvironment, restoreArgv, restoreEnvironment } from '../../plugins/engines/criu/command-lines.ts'
import { PostOffice } from '../support/post-office.ts'

/** Steps with --stint-member, as the daemon starts them for the further nodes of a job, with stand-ins for the daemon. */

const node = 'n3'
const minute = 60_000
const libexec = '/usr/libexec/stint'
const programs = { criu: '/usr/sbin/criu', nsenter: '/usr/bin/nsenter', unshare: '/usr/bin/unshare', setpriv: '/usr/bin/setpriv', libexecDir: libexec }
/** Root of a node may be without it (docs/reference/capabilities.md). */
const capabilitiesOfNode = new Set<string>(restoreCapabilities.filter((name) => name !== 'sys_resource'))
const image = '/var/tmp/stint-image'
/** Where /shared of the nodes lies on this machine: sockets in it are reached from both. */
const shared = join('/var/lib/stint-cluster', process.env['STINT_CLUSTER'] ?? 'stint', 'shared')

beforeAll(async () => { await cluster('daemon', node, 'stop') }, minute)
afterAll(async () => {
  await on(node, `rm -f ${fakeDaemonLog}`)
  await cluster('daemon', node, 'start')
}, minute)

/** A step of alice's in an allocation of its own. */
async function step(command: string, options = '--stint-member=1'): Promise<Output> {
  return tryOn('ctl', `cd; srun --mpi=none --nodelist=${node} ${options} ${command}`, { user: 'alice' })
}

describe('the option', () => {
  test('is known to srun alone', async () => {
    expect(await on('ctl', 'srun --help; echo; sbatch --help; salloc --help')).toMatch(/^(?:(?!stint-member)[^])*--stint-member=N +used by stintd itself\n(?:(?!stint-member)[^])*$/)
  })

  test.each(['0', 'x', '-1', '1024', '12345', '1x'])('with the value "%s" is refused', async (value) => {
    const refused = await step('true', `--stint-member=${value}`)
    expect(refused.exitCode).not.toBe(0)
    expect(refused.stderr).toContain('stint: --stint-member is for the daemon\'s own use')
  })

  test('is nothing for batch jobs and for the steps of others that inherit it', async () => {
    expect((await tryOn('ctl', `cd; _SLURM_SPANK_OPTION_stint_stint=x srun --nodelist=${node} echo fine`, { user: 'alice' })).stdout).toBe('fine')
    expect((await tryOn('ctl', `sbatch --stint-member=1 --wrap true`, { user: 'alice' })).exitCode).not.toBe(0)
  }, minute)
})

describe('without a sandbox the step ends with 1, and its command is not run', () => {
  test('when there is no daemon', async () => {
    const { exitCode, stdout, stderr } = await step('echo plain')
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr.split('\n').filter((line) => !line.startsWith('srun: '))).toEqual(['stint: the daemon does not answer on this node; this step ends'])
  }, minute)

  test.each([['refuse', 'not today%'], ['refuses-late', 'changed my mind'], ['park', 'wait a while'], ['parks-late', 'changed my mind']])('when the daemon says "%s"', async (behaviour, message) => {
    await using daemon = await FakeDaemon.start(node, behaviour)
    const { exitCode, stdout, stderr } = await step('echo plain')
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr.split('\n').filter((line) => !line.startsWith('srun: '))).toEqual([`stint: ${message}`])
    expect(await daemon.heard()).toMatch(/^open version=1 step=0 member=1 job=\d+ uid=1001 gid=1001 pid=\d+ options= script=$/m)
  }, minute)

  test.each(['silent', 'closes', 'garbage', 'incomplete', 'dies-before-go'])('when the daemon is "%s"', async (behaviour) => {
    await using daemon = await FakeDaemon.start(node, behaviour)
    const { exitCode, stdout } = await step('echo plain')
    expect([exitCode, stdout]).toEqual([1, ''])
    await daemon.untilHeard(/^open/m)
  }, minute)
})

describe('in its sandbox', () => {
  test('its command is PID 1001 of the job\'s user, in a view of its own, and its exit code is the step\'s', async () => {
    await using daemon = await FakeDaemon.start(node, 'start')
    const { exitCode, stdout } = await step('bash -c \'echo $$ $PPID; id -un; hostname; readlink /proc/self/ns/mnt; ls /tmp /dev/shm; exit 7\'')
    const [pids, user, host, mounts, ...rest] = stdout.split('\n')
    expect([exitCode, pids, user, host, ...rest]).toEqual([7, '1001 1000', 'alice', 'n-fake', '/dev/shm:', '', '/tmp:'])
    expect(mounts).not.toBe(await on(node, 'readlink /proc/1/ns/mnt'))
    const job = /job=(\d+)/.exec(await daemon.heard())?.[1]
    await daemon.untilHeard(/^exit status=1792$/m)
    await until('nothing is left behind', 10, async () => (await leftovers(node, Number(job))) === '')
  }, minute)

  test('names of ours in the answer hold against those of the submitting environment', async () => {
    await using daemon = await FakeDaemon.start(node, 'start', 'env=STINT_POST=/here', 'env=HYDRA_RMK=user')
    const { stdout } = await step('env', '--stint-member=1 --export=ALL,STINT_POST=/there,HYDRA_RMK=mine')
    await daemon.untilHeard(/^exit/m)
    expect(stdout.split('\n').filter((line) => /^(STINT_POST|HYDRA_RMK)=/.test(line)).sort()).toEqual(['HYDRA_RMK=mine', 'STINT_POST=/here'])
  }, minute)

  test('a member whose root was killed and whose daemon stays away for a minute ends with 1', async () => {
    const daemon = await FakeDaemon.start(node, 'start')
    const running = step('sleep 200')
    await daemon.untilHeard(/^mounted/m)
    await on(node, 'sleep 1')
    daemon.say('hold')
    await daemon.untilHeard(/^held$/m)
    await on(node, 'pkill -KILL -u alice -f "^stint-init root"; pkill -KILL -u alice -f "^sleep 200|sleep 200$"')
    await daemon.untilHeard(/^killed$/m)
    await daemon[Symbol.asyncDispose]()
    expect((await running).exitCode).toBe(1)
  }, 3 * minute)
})

describe('launcher and agent', () => {
  test('wait in little memory, are dumped and restored as they wait, and go on when they are woken', async () => {
    const directory = await workDirectory()
    await using post = new PostOffice(join(shared, directory.slice('/shared/'.length), 'post.sock'))
    await post.open()
    chmodSync(post.path, 0o777)
    await using daemon = await FakeDaemon.start(node, 'start', `env=STINT_POST=${directory}/post.sock`, 'env=STINT_POST_PATIENCE=600')
    post.start(1, `${libexec}/stint-agent n9 work; echo agent ended with $?`)
    const running = step(`--input=none --output=none --error=none ${libexec}/stint-init launcher`)
    await until('the agent waits', 20, async () => post.verbs().includes('news') && post.connections.size === 0)
    await on(node, 'sleep 0.5')

    const [launcher, agent] = await Promise.all(['launcher', 'agent'].map((name) => on(node, `pgrep -u alice -f "^${libexec}/stint-(init ${name}|${name} n9)"`)))
    const resident = await on(node, `cat /proc/${launcher}/status /proc/${agent}/status | awk '/VmRSS/ { print $2 }'`)
    for (const kilobytes of resident.split('\n')) expect(Number(kilobytes)).toBeLessThan(500)
    expect(await on(node, `ls /proc/${agent}/fd | wc -l; ls /proc/${launcher}/fd | wc -l`)).toBe('3\n5')

    daemon.say('hold')
    await daemon.untilHeard(/^held$/m)
    const pid1 = /^sandbox pid=(\d+)$/m.exec(await daemon.heard())?.[1] ?? ''
    const enter = (...kinds: readonly string[]): string[] => kinds.map((kind) => `--${kind === 'mnt' ? 'mount' : kind.replace('?', '')}=/proc/${pid1}/ns/${kind.replace('?', '')}`)
    const target = { pid1: { enter, proc: `/proc/${pid1}` }, uid: 1001, gid: 1001, groups: [], rootPid: 1000, directory: image }
    const [dump, restore] = [{ ...target, keepRunning: false, unseen: false, barrierSeconds: 1, limitBytes: 2 ** 40, runDirectory: image }, { ...target, cgroups: [], workDirectory: image, timeoutSeconds: 20 }]
    const assigned = (environment: Record<string, string>): string => Object.entries({ ...environment, STINT_BARRIER_ACTION: 'none' }).map(([key, value]) => `${key}=${value}`).join(' ')
    await on(node, `mkdir -p ${image}/criu && ${assigned(dumpEnvironment(programs, dump, '/nonexistent'))} ${dumpArgv(programs, dump).join(' ')}`)
    await daemon.untilHeard(/^killed$/m)
    const requests = post.heard.length
    await on(node, `${assigned(restoreEnvironment(programs, restore, '/nonexistent'))} ${restoreArgv(programs, restore, capabilitiesOfNode).join(' ')}`)
    daemon.say('restored')
    daemon.say('unhold')
    await daemon.untilHeard(/^unheld$/m)

    Object.assign(post.post(1), { out: Buffer.from('worked\n'), status: 5 << 8 })
    const inside = await on(node, `nsenter --target=${pid1} --pid --mount -- pgrep -f "stint-agent n9 work$" | tail -n 1`)
    daemon.say(`wake pid=${inside}`)
    await until('the command has ended', 10, async () => post.heard.some((request) => request.verb === 'ended'))
    expect(post.heard.slice(requests).filter((r) => r.verb === 'output').map((r) => r.body.toString()).join('')).toBe('worked\nagent ended with 5\n')
    post.quit()
    daemon.say('wake pid=1001')
    expect((await running).exitCode).toBe(0)
    await on(node, `rm -r ${image}`)
  }, 2 * minute)
})
