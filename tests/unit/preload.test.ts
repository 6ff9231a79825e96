import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { unmended } from '../../plugins/engines/criu/preload.ts'

const source = join(import.meta.dirname, '../../plugins/spank/criu/criu_shim.c')
const programs = { criu: '/usr/sbin/criu', nsenter: '/n', setpriv: '/usr/bin/setpriv', unshare: '/u', libexecDir: '/usr/libexec/stint' }
const missingPaths = 'paths looked up as root'
const bound = (from: string, call: string, to = '/usr/libexec/stint/criu-shim.so'): string => `      2182:\tbinding file ${from} [0] to ${to} [0]: normal symbol \`${call}' [GLIBC_2.2.5]\n`

describe('whether the preloaded library is in force', () => {
  test.each([['__isoc23_sscanf'], ['__isoc99_sscanf'], ['sscanf']])('it is, with a CRIU that calls %s', (call) => {
    expect(unmended(['ptrace', 'openat64', call].map((name) => bound('/usr/sbin/criu', name)).join(''), programs)).toEqual({ loaded: true, missing: [] })
  })

  test('what CRIU binds elsewhere, or another program binds, does not count', () => {
    const text = bound('/usr/sbin/criu', 'ptrace') + bound('/usr/sbin/criu', 'openat64') + bound('/usr/sbin/criu', 'sscanf', '/lib/libc.so.6') + bound('/lib/libnl-3.so.200', 'sscanf') + bound('/usr/bin/setpriv', 'sscanf') + bound('setpriv', 'sscanf')
    expect(unmended(text, programs)).toEqual({ loaded: true, missing: ['expired timerfds'] })
  })

  test.each(['', 'ERROR: ld.so: object criu-shim.so cannot be preloaded', bound('setpriv', 'sscanf')])('a loader that tells nothing of CRIU has not loaded it: %j', (text) => {
    expect(unmended(text, programs)).toEqual({ loaded: false, missing: ['interrupted system calls', missingPaths, 'expired timerfds'] })
  })
})

describe('an expired timerfd is shown as due', () => {
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'stint-preload-'))
    await execa('cc', ['-std=gnu17', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-o', `${folder}/shim.so`, source])
  })
  afterAll(() => { rmSync(folder, { recursive: true }) })

  test.each(['sscanf', '__isoc99_sscanf'])('to a program that calls %s', async (name) => {
    writeFileSync(`${folder}/reads.c`, `#include <stdio.h>
int scan(const char *text, const char *format, ...) __asm__("${name}");
int main(void)
{
    unsigned long long ticks, seconds, nanoseconds;
    const char *expired[] = { "0", "3" };
    for (int at = 0; at < 2; at++) {
        char line[32];
        snprintf(line, sizeof(line), "ticks: %s", expired[at]);
        if (scan(line, "ticks: %llu", &ticks) != 1 || scan("it_value: (0, 0)", "it_value: (%llu, %llu)", &seconds, &nanoseconds) != 2)
            return 1;
        printf("%llu %llu %llu\\n", ticks, seconds, nanoseconds);
    }
    return 0;
}
`)
    await execa('cc', ['-o', `${folder}/reads`, `${folder}/reads.c`])
    const plain = await execa(`${folder}/reads`)
    const mended = await execa(`${folder}/reads`, { env: { LD_PRELOAD: `${folder}/shim.so` } })
    expect([plain.stdout, mended.stdout]).toEqual(['0 0 0\n3 0 0', '0 0 0\n3 0 1'])
  })
})
