import { afterAll, describe, expect, test } from '@jest/globals'
import { counter, leftovers, on, printed, putCriuBack, replaceCriu, restartDaemon, showJob, status, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from '../support/cluster.ts'
import { sharedCores } from '../support/mpi.ts'

/** What cannot be restored is not ended: an image is restored beside the frozen payload before anything is decided. */

/** A CRIU that dumps, and cannot restore what it has dumped. */
const noRestore = '#!/bin/sh\nif [ "$1" = restore ]; then for i; do [ "$last" = --work-dir ] && echo "(00.1) Error (criu/sockets.c:1): Can\'t restore this socket" > "$i/restore.log"; last=$i; done; exit 1; fi\nexec /usr/sbin/criu.real "$@"\n'

async function rehearsals(node: string, job: number): Promise<unknown[]> {
  return ((await status(node, job))?.events ?? []).filter(({ kind }) => kind === 'rehearsed').map(({ detail }) => detail)
}

async function running(script: string, options = ''): Promise<{ job: number; node: string; directory: string }> {
  const directory = await workDirectory()
  const job = await submit({ directory, options: `--stint --time=10 ${options}`, script })
  const node = await untilRunning(job)
  await untilState(node, job, 'running')
  return { job, node, directory }
}

afterAll(async () => {
  for (const node of ['n1', 'n2']) await tryOn(node, 'rm -f /etc/stint/environment')
})

describe('a rehearsal', () => {
  test('of an image that cannot be restored keeps the job alive, and its owner learns why', async () => {
    const { job, node, directory } = await running(counter(200))
    await replaceCriu(node, noRestore)
    try {
      for (const keep of ['', '--keep-running']) {
        expect(await tryOn(node, `stint checkpoint ${keep} ${job}`)).toMatchObject({ exitCode: 6, stderr: expect.stringMatching(/E_REHEARSAL_FAILED: .*Can't restore this socket/) as unknown })
      }
      expect((await showJob(job)).get('JobState')).toBe('RUNNING')
      expect((await status(node, job))?.error).toMatch(/Can't restore this socket/)
      expect(await on(node, `stint images --json ${job}`)).toBe('[]')
    } finally {
      await putCriuBack(node)
    }
    await untilPrinted(directory, /^\d+$/m, 30)
    expect(await tryOn(node, `stint checkpoint ${job}`)).toMatchObject({ exitCode: 0 })
    await untilRunning(job, 1, 120)
    await on('ctl', `scancel ${job}`)
    await untilEnded(job, 60)
  }, 240_000)

  test('leaves files, names, FIFOs, sockets, locks and /tmp as they are, and passes', async () => {
    const { job, node, directory } = await running(`#!/bin/bash
cat > held.py <<'P'
import fcntl, os, pty, socket, time
rw = open('rw', 'w+b'); rw.write(b'A' * 5000); rw.flush()
lock = open('lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX)
record = open('record', 'w'); fcntl.lockf(record, fcntl.LOCK_EX)
ghost = open('ghost', 'w+b'); ghost.write(b'g' * 100000); ghost.flush(); os.unlink('ghost')
link = open('name', 'w+b'); link.write(b'link'); link.flush(); os.link('name', 'other'); os.unlink('name')
os.mkfifo('fifo'); fifo = os.open('fifo', os.O_RDWR); os.write(fifo, b'in the fifo')
bound = socket.socket(socket.AF_UNIX); bound.bind('relative'); bound.listen(5)
client = socket.socket(socket.AF_UNIX); client.connect('relative'); server = bound.accept()[0]; client.send(b'sent')
datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); datagrams.bind(os.getcwd() + '/absolute')
private = open('/tmp/file', 'w+b'); private.write(b'tmp'); private.flush()
terminal = pty.openpty(); os.write(terminal[0], b'typed\\n')
port = socket.create_server(('0.0.0.0', 0))
def seen(): return sorted((e.name, e.stat(follow_symlinks=False).st_ino, e.stat(follow_symlinks=False).st_size, e.stat(follow_symlinks=False).st_mtime_ns) for e in os.scandir('.') if e.name not in ('ready', 'go', 'out.txt', 'err.txt', 'seen') and not e.name.startswith('link_remap.'))
before = seen()
open('ready', 'w').close()
while not os.path.exists('go'): time.sleep(.1)
ghost.seek(0); link.seek(0); rw.seek(0)
print('same names and files', seen() == before)
print(os.read(fifo, 99), server.recv(9), os.read(terminal[1], 99), len(ghost.read()), link.read(), rw.read() == b'A' * 5000, open('/tmp/file').read())
for name, take in (('lock', fcntl.flock), ('record', fcntl.lockf)):
    other = os.fork()
    if other == 0:
        try: take(os.open(name, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError: os._exit(7)
        os._exit(0)
    print(name, 'held', os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 7)
P
python3 held.py
`)
    await until('the job is ready', 30, async () => (await tryOn(node, `test -e ${directory}/ready`)).exitCode === 0)
    expect(await tryOn(node, `stint checkpoint --keep-running ${job}`)).toMatchObject({ exitCode: 0 })
    expect(await rehearsals(node, job)).toMatchObject([{ checkpoint: 1, outcome: 'passed', reason: null }])
    // Once per stint, by the default.
    expect(await tryOn(node, `stint checkpoint --keep-running ${job}`)).toMatchObject({ exitCode: 0 })
    expect(await rehearsals(node, job)).toHaveLength(1)
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
    await untilEnded(job, 60)
    expect(await printed(directory)).toBe("same names and files True\nb'in the fifo' b'sent' b'typed\\n' 100000 b'link' True tmp\nlock held True\nrecord held True")
    expect(await leftovers(node, job)).toBe('')
  }, 120_000)

  test('of several MPI ranks on one node passes', async () => {
    const { job, node, directory } = await running(`#!/bin/bash\n${sharedCores}\ncat > ranks.sh <<'P'\ntouch ready.$PMI_RANK\nfor i in $(seq 600); do [ -e go ] && exit 0; sleep .1; done\nP\nmpirun.mpich -n 3 bash ranks.sh\necho ended $?\n`, '--ntasks=3 --nodes=1')
    await until('the ranks are there', 60, async () => (await on(node, `ls ${directory}`)).includes('ready.2'))
    expect(await tryOn(node, `stint checkpoint --keep-running ${job}`)).toMatchObject({ exitCode: 0 })
    expect(await rehearsals(node, job)).toMatchObject([{ outcome: 'passed' }])
    await on('ctl', `touch ${directory}/go`, { user: 'alice' })
    await untilEnded(job, 60)
    expect(await printed(directory)).toBe('ended 0')
  }, 120_000)

  test('cut short by the death of the daemon leaves nothing, and the job runs on', async () => {
    const { job, node } = await running(counter(200))
    await on(node, `echo STINT_FAULT=rehearsed:/run/stint/rehearsed-once > /etc/stint/environment`)
    await restartDaemon(node)
    await untilState(node, job, 'running')
    await tryOn(node, `stint checkpoint ${job}`)
    await until('the daemon is back', 60, async () => (await status(node, job))?.state === 'running')
    await until('nothing is left of the rehearsal', 60, async () => (await on(node, 'pgrep -a criu; pgrep -af "[s]tint-init rehearse"; true')).trim() === '')
    expect((await showJob(job)).get('JobState')).toBe('RUNNING')
    await on(node, 'rm -f /etc/stint/environment')
    await restartDaemon(node)
    expect(await tryOn(node, `stint checkpoint --keep-running ${job}`)).toMatchObject({ exitCode: 0 })
    await on('ctl', `scancel ${job}`)
    await untilEnded(job, 60)
    expect(await leftovers(node, job)).toBe('')
  }, 180_000)
})
