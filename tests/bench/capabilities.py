#!/usr/bin/env python3
"""Which capability does CRIU need for what? Prints the tables of docs/reference/capabilities.md.

usage: capabilities.py DIRECTORY    as root, where criu, setpriv and python3 are; DIRECTORY: empty, of ext4 or the like

For every payload and every capability: dump (or restore) in a sandbox made here with the whole set but that one, and
the first error. In place of SYS_ADMIN, CHECKPOINT_RESTORE is given. Everything made is in namespaces that end with their first process, and in DIRECTORY.
"""
import os, re, shutil, subprocess, sys, time
from pathlib import Path

USER = 65534
DUMP = 'sys_admin net_admin dac_read_search sys_ptrace dac_override'.split()
RESTORE = 'sys_admin net_admin net_raw sys_time setuid setgid setpcap sys_chroot dac_override chown fowner sys_ptrace ipc_lock sys_nice'.split()
SHARED = '-v4 --manage-cgroups=ignore --tcp-established --network-lock=skip --file-locks --no-default-config'.split()

# The payload: filters a system call as root, becomes the user, then holds the thing by name and counts.
PAYLOAD = r'''
import ctypes, fcntl, mmap, os, pty, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
what = sys.argv[1]
if os.getuid() == 0:
    if what != 'no filter':
        code = b''.join(struct.pack('HBBI', *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, 425), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000)))
        buffer = ctypes.create_string_buffer(code)
        assert libc.prctl(22, 2, ctypes.byref(ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(buffer))))) == 0
    os.setgroups([]); os.setresgid(UID, UID, UID); os.setresuid(UID, UID, UID)
    os.execv(sys.executable, [sys.executable, *sys.argv])
if what == 'tcp':
    s = socket.create_server(('127.0.0.1', 0)); a = socket.create_connection(s.getsockname()); b = s.accept()
elif what == 'tcp closed':
    s = socket.create_server(('127.0.0.1', 0)); a = socket.create_connection(s.getsockname()); b = s.accept()[0]; b.send(b'bye'); b.close()
elif what == 'tcp half':
    s = socket.create_server(('::1', 0), family=socket.AF_INET6); a = socket.create_connection(s.getsockname()[:2]); b = s.accept()[0]; b.send(b'bye'); b.shutdown(1); a.shutdown(1)
elif what == 'sysv':
    libc.shmat.restype = ctypes.c_void_p
    m = libc.shmget(0, 4096, 0o1600); libc.shmat(m, None, 0)
elif what == 'inotify':
    i = libc.inotify_init1(0); assert libc.inotify_add_watch(i, b'.', 0x100) > 0
elif what == 'ghost':
    f = open('ghost', 'w+b'); f.write(b'x' * 3000000); f.flush(); os.unlink('ghost')
elif what == 'link':
    f = open('name', 'w+b'); os.link('name', 'other'); os.unlink('name')
elif what == 'lease':
    open('lease', 'w').close(); f = open('lease'); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)
elif what == 'pty':
    p = pty.openpty()
elif what == 'undumpable':
    libc.prctl(4, 0, 0, 0, 0)
out = open('count', 'a', buffering=1)
while True:
    out.write('x'); out.flush(); time.sleep(.02)
'''.replace('UID', str(USER))
PAYLOADS = ['no filter', 'plain', 'tcp', 'tcp closed', 'tcp half', 'sysv', 'inotify', 'ghost', 'link', 'lease', 'pty', 'undumpable']
INIT = '''mount -t proc proc /proc && mount -t devpts -o newinstance,ptmxmode=666,gid=5 devpts /dev/pts && mount --bind /dev/pts/ptmx /dev/ptmx && ip link set lo up
[ $# = 0 ] || { echo 999 > /proc/sys/kernel/ns_last_pid; setsid "$@" < /dev/null > /dev/null 2>&1 & }
echo ready; exec sleep infinity'''


class Sandbox:
    """PID, mount, IPC, UTS and network namespaces; as PID 1000 the payload, if one is named."""
    def __init__(self, home, payload=None):
        command = ['python3', home / 'payload.py', payload] if payload else []
        self.shell = subprocess.Popen(['unshare', '-pmiunf', '--kill-child', 'sh', '-c', INIT, 'sandbox', *command], cwd=home, stdout=subprocess.PIPE)
        self.shell.stdout.readline()
        self.pid = int(Path(f'/proc/{self.shell.pid}/task/{self.shell.pid}/children').read_text().split()[0])
        self.count = home / 'count'
        if payload:
            self.counts()

    def __enter__(self): return self

    def __exit__(self, *_):
        self.shell.kill(); self.shell.wait()

    def counts(self):
        """Does the payload run? Waits up to a second for two signs of life."""
        size = lambda: self.count.stat().st_size if self.count.exists() else 0
        start = size()
        return any(time.sleep(.05) or size() >= start + 2 for _ in range(20))

    def criu(self, identity, capabilities, log, *arguments):
        caps = ','.join(['-all', *(f'+{name}' for name in capabilities)])
        command = ['nsenter', f'--target={self.pid}', '-p', '-m', '-n', '-u', f'--wd={log.parent}', 'setpriv', *identity, f'--inh-caps={caps}', f'--ambient-caps={caps}', 'criu', *arguments, '-D', log.parent, '-o', log.name, *SHARED]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, env={'PATH': os.environ['PATH']})
        except subprocess.TimeoutExpired:
            return 'hangs'
        if done.returncode == 0 and self.counts():
            return 'works'
        text = log.read_text(errors='replace') if log.exists() else done.stdout.decode()
        found = [m for m in re.findall(r'(?:Error|interrupt).*', text) if not re.search('RLIMIT_NOFILE|tun: Unable', m)]
        return re.sub(r'^.*?\): |\|', '', found[0]) if found else f'exit {done.returncode}, payload does not run'


def attempt(base, payload, dump, restore):
    """The outcome of a dump with one set and, unless the other is None, of a restore in a fresh sandbox."""
    shutil.rmtree(base, ignore_errors=True)
    home, images = base / 'home', base / 'root' / 'images'
    for directory in (home, images):
        directory.mkdir(parents=True)
    (home / 'payload.py').write_text(PAYLOAD)
    os.chown(home, USER, USER)
    images.parent.chmod(0o700)
    end = ['--leave-running'] if restore is None else []
    user = [f'--reuid={USER}', f'--regid={USER}', '--clear-groups']
    with Sandbox(home, payload) as sandbox:
        # A killed payload does not count: run the check of the sandbox only where it lives on.
        sandbox.counts = sandbox.counts if end else lambda: True
        outcome = sandbox.criu(user, dump, images / 'dump.log', 'dump', '--unprivileged', '-t', '1000', '--ghost-limit=4G', '--link-remap', *end)
    if restore is None or outcome != 'works':
        return outcome
    with Sandbox(home) as sandbox:
        return sandbox.criu(['--securebits=+noroot'], restore, images / 'restore.log', 'restore', '-d')


def table(title, base, names, run):
    print(f'\n{title}\n\n| payload | ' + ' | '.join(['all', *names]) + ' |\n' + '| --- ' * (len(names) + 2) + '|')
    for payload in PAYLOADS:
        # CRIU does not start with neither of the two.
        others = [['checkpoint_restore' if n == gone == 'sys_admin' else n for n in names if n != gone or n == 'sys_admin'] for gone in names]
        cells = [run(base, payload, chosen) for chosen in [names, *others]]
        print(f'| {payload} | ' + ' | '.join(cells) + ' |', flush=True)


def main():
    base = Path(sys.argv[1]).resolve() / 'capabilities'
    table('dump, without', base, DUMP, lambda b, p, names: attempt(b, p, names, None))
    table('restore, without', base, RESTORE, lambda b, p, names: attempt(b, p, DUMP, names))
    shutil.rmtree(base)


main()
