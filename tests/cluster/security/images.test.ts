import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { atOnce, on, printed, showJob, submit, tryOn, until, untilEnded, untilRunning, untilState, workDirectory } from '../../support/cluster.ts'

/**
 * Somebody who can write to the image store, but is not root on a node, has changed or moved an image. The job is held, its owner
 * is told, and nothing of the image runs; once the admin has dealt with it the job goes on.
 */

const minute = 60_000
const keyFile = '/etc/stint/store.key'
const script = '#!/bin/bash\ni=0\nwhile [ ! -e go ]; do echo $((++i)); sleep 0.5; done\nexit 3\n'

interface Saved { readonly job: number; readonly directory: string; readonly user: 'alice' | 'bob' }

/** A job that was saved, perhaps once more by the requeue, and waits in the queue, held. */
async function saved(user: 'alice' | 'bob' = 'alice'): Promise<Saved> {
  const directory = await workDirectory(user)
  const job = await submit({ user, directory, options: '--stint --time=10', script })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  await on(node, `stint checkpoint --keep-running ${job}`)
  await on('ctl', `scontrol requeuehold ${job}`)
  await until(`job ${job} waits`, 40, async () => (await showJob(job)).get('JobState') === 'PENDING')
  await on('ctl', `touch ${directory}/go`, { user })
  return { job, directory, user }
}

/** Whoever has the store can do this: the manifest with other values, its checksum made anew, without or with the MAC that it had. */
const forge = (member: string, expression: string, keepMac: boolean): string => `python3 - <<'END'
import hashlib, json, re
path = '${member}/manifest.json'
text = open(path).read()
at = re.search(r',\\n "sha256": "[0-9a-f]{64}"', text)
manifest = json.loads(text[:at.start()] + '\\n}')
${expression}
body = json.dumps(manifest, indent=1)[:-2]
summed = body + ',\\n "sha256": "' + hashlib.sha256(body.encode()).hexdigest() + '"'
open(path, 'w').write(summed + (text[at.end():] if ${keepMac ? 'True' : 'False'} else '\\n}\\n'))
END`

/** The newest checkpoint, for the shell. */
const newest = (job: number): string => `$(ls -d /shared/stint/${job}/*/0* | tail -n 1)`

interface Attack {
  readonly name: string
  readonly tamper: (victim: Saved, other: Saved) => Promise<void>
  /** What the admin does before the job is released; undefined: nothing helps, it is cancelled. */
  readonly mend: ((victim: Saved) => Promise<void>) | undefined
}

async function forgeAt(job: number, expression: string, keepMac: boolean): Promise<void> {
  const path = await on('ctl', `echo ${newest(job)}/m0`)
  await on('ctl', forge(path, expression, keepMac))
}

const attacks: readonly Attack[] = [
  { name: 'another script in the manifest, with the old MAC', tamper: async ({ job }) => forgeAt(job, "manifest['script'] = '/tmp/evil'", true), mend: undefined },
  { name: 'another owner in the manifest, without a MAC', tamper: async ({ job }) => forgeAt(job, "manifest['uid'] = manifest['gid'] = 0", false), mend: undefined },
  {
    name: 'no MAC and nothing else changed, which the admin adopts', tamper: async ({ job }) => forgeAt(job, 'pass', false),
    mend: async ({ job }) => { await on('n1', `stint key adopt ${job}`) },
  },
  {
    name: 'an older image under a newer number',
    tamper: async ({ job }) => { await on('ctl', `cp -a ${newest(job)} ${newest(job)}1`) },
    mend: async ({ job }) => { await on('ctl', `rm -r ${newest(job)}`) },
  },
  {
    name: 'an image under another member',
    tamper: async ({ job }) => { await on('ctl', `cd ${newest(job)} && cp -a m0 m1`) },
    mend: async ({ job }) => { await on('ctl', `rm -r ${newest(job)}/m1`) },
  },
  {
    name: "another user's image",
    tamper: async ({ job }, other) => { await on('ctl', `cd ${newest(job)} && mv m0 /shared/kept-${job} && cp -a ${newest(other.job)}/m0 m0`) },
    mend: async ({ job }) => { await on('ctl', `cd ${newest(job)} && rm -r m0 && mv /shared/kept-${job} m0`) },
  },
  {
    name: 'a file more than was sealed',
    tamper: async ({ job }) => { await on('ctl', `echo rules >${newest(job)}/m0/criu/iptables-9.img`) },
    mend: async ({ job }) => { await on('ctl', `rm ${newest(job)}/m0/criu/iptables-9.img`) },
  },
]

async function untilHeld(job: number): Promise<string> {
  return until(`job ${job} is held`, 60, async () => {
    const fields = await showJob(job)
    const comment = await on('ctl', `squeue -h -j ${job} -o %k`)
    return fields.get('JobState') === 'PENDING' && fields.get('Priority') === '0' && comment.includes('E_') ? comment : undefined
  })
}

/** Goes on from its image: what it counts has no gap, and it ends by itself. */
async function goesOn({ job, directory }: Saved): Promise<void> {
  await on('ctl', `scontrol release ${job}`)
  const fields = await untilEnded(job, 90)
  expect([job, fields.get('ExitCode')]).toEqual([job, '3:0'])
  const lines = (await printed(directory)).split('\n').map(Number)
  expect([job, lines]).toEqual([job, lines.map((_, at) => at + 1)])
}

let original: string

beforeAll(async () => { original = await on('n1', `cat ${keyFile}`) })
afterAll(async () => { for (const node of ['n1', 'n2']) await on(node, `cat >${keyFile}`, { input: `${original}\n` }) })

describe('an image that somebody changed in the store', () => {
  test('is refused, the job held and told, no older checkpoint taken; once it is put right the job goes on', async () => {
    const other = await saved('bob')
    await atOnce(attacks, async ({ name, tamper, mend }) => {
      const victim = await saved()
      await tamper(victim, other)
      await on('ctl', `scontrol release ${victim.job}`)
      const comment = await untilHeld(victim.job)
      expect([name, comment]).toEqual([name, expect.stringContaining('E_IMAGE_FORGED')])
      expect([name, await printed(victim.directory, 'err.txt')]).toEqual([name, expect.stringMatching(/E_IMAGE_FORGED|somebody|no key of this site/)])
      if (mend === undefined) {
        const listed = JSON.parse(await on('n1', `stint images ${victim.job} --json`)) as { state: string; user: string | null }[]
        expect([name, listed.filter(({ state }) => state !== 'sealed')]).toEqual([name, [expect.objectContaining({ state: 'forged', user: null })]])
        await on('ctl', `scancel ${victim.job}`)
        return
      }
      await mend(victim)
      await goesOn(victim)
    })
    await on('ctl', `scancel ${other.job}`)
  }, 4 * minute)
})

describe('a store key', () => {
  test('that is rotated is accepted until it is dropped, then refused, and what it sealed goes on when it is back', async () => {
    const [first, second] = await Promise.all([saved(), saved()])
    await on('n1', 'stint key rotate --json')
    const rotated = await on('n1', `cat ${keyFile}`)
    await on('n2', `cat >${keyFile}`, { input: `${rotated}\n` })
    await goesOn(first)
    const { keys } = JSON.parse(await on('n1', 'stint key status --json')) as { keys: { id: string; use: string }[] }
    const old = keys.find(({ use }) => use === 'read')?.id ?? ''
    const refused = await tryOn('n1', `stint key drop ${old}`)
    expect([refused.exitCode, refused.stderr]).toEqual([2, expect.stringContaining(`images are sealed with key ${old}`)])
    for (const node of ['n1', 'n2']) await on(node, `stint key drop --force ${old}`)
    await on('ctl', `scontrol release ${second.job}`)
    expect(await untilHeld(second.job)).toContain('E_IMAGE_FORGED')
    expect(await printed(second.directory, 'err.txt')).toContain(`sealed with store key ${old}`)
    for (const node of ['n1', 'n2']) await on(node, `cat >${keyFile}`, { input: `${rotated}\n` })
    await goesOn(second)
  }, 3 * minute)

  test('is shown to nobody but root, made only where there is none, and named by doctor on the node that lacks it', async () => {
    const bob = await tryOn('n1', 'stint key status', { user: 'bob' })
    expect([bob.exitCode, bob.stdout]).toEqual([77, ''])
    expect((await tryOn('n1', `cat ${keyFile}`, { user: 'bob' })).exitCode).not.toBe(0)
    expect((await tryOn('n1', 'stint key init')).stderr).toMatch(/E_BAD_REQUEST: .* is there already/)
    await on('n2', `stint key rotate --stage`)
    const findings = JSON.parse((await tryOn('n1', 'stint doctor --json')).stdout) as { subject: string; verdict: string; found: string }[]
    expect(findings.find(({ subject }) => subject === 'other nodes')).toMatchObject({ verdict: 'fault', found: expect.stringMatching(/n2: has store key [0-9a-f]{16}, which this node lacks/) as unknown })
    expect(findings.find(({ subject }) => subject === 'store key')).toMatchObject({ verdict: 'ok' })
    await on('n2', `cat >${keyFile}`, { input: `${await on('n1', `cat ${keyFile}`)}\n` })
  }, minute)
})
