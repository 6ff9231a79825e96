import { expect, test } from '@jest/globals'
import { on, printed, submit, tryOn, until, untilPrinted, untilRunning, untilState, workDirectory } from '../../support/cluster.ts'

/** What a terminal obeys: control characters but the line's end, and marks that turn text around or hide it. */
// eslint-disable-next-line no-control-regex -- that is what is looked for
const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/u
/** Of at most 15 bytes. */
const processName = '\u001b[2J\u202e\nok'
const fileName = '\u001b]0;root\u0007\n\u2066done\u2069'

/** Holds a POSIX message queue, which cannot be saved, and a file that is on this node alone. */
const script = `#!/bin/bash
cat > hostile.py <<'P'
import ctypes, json, os, time
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs('/var/tmp/hostile', exist_ok=True)
file = open('/var/tmp/hostile/' + json.loads('${JSON.stringify(fileName).replaceAll('\\', '\\\\')}'), 'w')
queue = libc.mq_open(b'/hostile', os.O_CREAT | os.O_RDWR, 0o600, None)
libc.prctl(15, json.loads('${JSON.stringify(processName).replaceAll('\\', '\\\\')}').encode(), 0, 0, 0)
print('ready' if queue >= 0 else 'no queue', flush=True)
time.sleep(120)
P
python3 hostile.py
`

test('names with escape sequences, line ends and directional marks reach no terminal, log or Slurm record', async () => {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint=every=1s --time=10 --job-name=$'\\e[2Jx\\u202e'`, script })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  await untilPrinted(directory, /ready/, 30)
  const refused = await tryOn(node, `stint checkpoint ${job} --keep-running`, { user: 'alice' })
  expect([refused.exitCode, refused.stderr]).toEqual([5, expect.stringContaining('\\x1b[2J\\u202e\\nok')])
  await until('the job was told', 60, async () => (await printed(directory, 'err.txt')).includes('\\x1b[2J'))
  const seen = {
    refused: refused.stderr,
    told: await printed(directory, 'err.txt'),
    check: (await tryOn(node, `stint check ${job}`)).stdout,
    status: await on(node, 'stint status'),
    detail: await on(node, `stint status ${job}`),
    json: (await tryOn(node, `stint check ${job} --json`)).stdout,
    statusJson: await on(node, `stint status ${job} --json`),
    doctor: (await tryOn(node, 'stint doctor')).stdout,
    audit: await on(node, 'stint audit'),
    log: await on(node, 'cat /var/log/stint/stintd.log'),
    notes: await on('ctl', `squeue -h -j ${job} -O Comment:200,admin_comment:200`),
  }
  expect(Object.entries(seen).filter(([, text]) => obeyed.test(text)).map(([name, text]) => [name, JSON.stringify(text.slice(Math.max(0, text.search(obeyed) - 80)).slice(0, 160))])).toEqual([])
  expect(seen.check).toContain('\\x1b[2J\\u202e\\nok')
  expect(seen.check).toContain('/var/tmp/hostile/\\x1b]0;root\\x07\\n\\u2066done\\u2069')
  // Programs get the names as they are.
  const found = JSON.parse(seen.json) as { carried: string[]; obstacles: { message: string }[] }
  expect(found.obstacles.some(({ message }) => message.includes(processName))).toBe(true)
  expect(found.carried).toEqual([`/var/tmp/hostile/${fileName}`])
  await on('ctl', `scancel ${job}`)
  await on(node, 'rm -rf /var/tmp/hostile; rm -f /dev/mqueue/hostile')
}, 150_000)
