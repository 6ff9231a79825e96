import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { dumpCapabilities } from '../../plugins/engines/criu/capabilities.ts'
import { fixtures, on, printed, submit, tryOn, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'

const minute = 60_000

test('stint doctor finds cgroup v2, dirty tracking and no fault but that the two nodes are one machine', async () => {
  const findings = JSON.parse((await tryOn('n1', 'stint doctor --json')).stdout) as { subject: string; verdict: string; found: string }[]
  expect(findings.filter((finding) => finding.verdict === 'fault').map((finding) => finding.subject)).toEqual(['node name', 'other nodes'])
  const found = Object.fromEntries(findings.map((finding) => [finding.subject, `${finding.verdict}: ${finding.found}`]))
  expect(found).toMatchObject({ 'cgroup layout': 'ok: v2', 'dirty tracking': 'ok: available', 'time namespace': 'ok: available' })
}, 8 * minute)

/** CRIU by hand on a job's payload, with what the engine gives it. */
describe('criu, with every capability to be had', () => {
  const images = '/shared/by-hand'
  const capabilities = ['-all', ...dumpCapabilities.map((name) => `+${name}`), '+dac_override'].join(',') // For the images, which root's directory takes here.
  const asUser = `setpriv --reuid=1001 --regid=1001 --clear-groups --inh-caps=${capabilities} --ambient-caps=${capabilities} --`
  let directory: string
  let job: number

  /** @param identity what stands before criu. @returns bytes of memory pages in the images */
  async function criu(verb: 'dump' | 'pre-dump', name: string, identity: string, options: string): Promise<number> {
    const ending = verb === 'dump' ? '--leave-running' : ''
    const { exitCode, stdout, stderr } = await tryOn('n1', `mkdir -p ${images} && mkdir ${images}/${name} &&
      pid=$(pgrep -x -f 'stint-init pid1 start') && nsenter --target=$pid --pid --mount --net --uts --wd=/ -- ${identity} criu ${verb} ${identity === '' ? '' : '--unprivileged'} --no-default-config --tree 1000 \\
        --images-dir ${images}/${name} --log-file log -v4 --manage-cgroups=ignore --tcp-established --network-lock=skip --file-locks ${ending} ${options} || { tail -n 20 ${images}/${name}/log; exit 1; }
      cat ${images}/${name}/pages-*.img | wc -c`)
    if (exitCode !== 0) throw new Error(`${verb} ${name}: ${stdout}\n${stderr}`)
    return Number(stdout)
  }

  beforeAll(async () => {
    directory = await workDirectory()
    job = await submit({ directory, options: '--stint --time=30 --mem=200 --nodelist=n1', script: `#!/bin/bash\npython3 ${fixtures}/programs/hog.py 60 end\n` })
    await untilState(await untilRunning(job), job, 'running')
    await untilPrinted(directory, /ready/, 60)
  }, 16 * minute)

  afterAll(async () => { await on('n1', `rm -rf ${images}`) })

  test.each([['the user with the documented set', asUser], ['root', '']])('dumps as %s', async (name, identity) => {
    expect(await criu('dump', name.split(' ').at(-1) ?? '', identity, '')).toBeGreaterThan(60 * 2 ** 20)
  }, 8 * minute)

  test('pre-dumps as the user, and the dump after it writes only what has changed', async () => {
    expect(await criu('pre-dump', 'pre', asUser, '--track-mem')).toBeGreaterThan(60 * 2 ** 20)
    expect(await criu('dump', 'rest', asUser, '--track-mem --prev-images-dir ../pre')).toBeLessThan(10 * 2 ** 20)
  }, 12 * minute)

  test('leaves the job as it was', async () => {
    await on('ctl', `touch ${directory}/end`)
    expect((await untilEnded(job, 90)).get('ExitCode')).toBe('0:0')
    expect((await printed(directory)).split('\n')).toEqual(['ready', 'DONE True'])
  }, 16 * minute)
})
