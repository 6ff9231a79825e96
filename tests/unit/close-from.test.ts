import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const spank = join(import.meta.dirname, '../../plugins/spank')
const directory = mkdtempSync(join(tmpdir(), 'stint-close-'))
afterAll(() => { rmSync(directory, { recursive: true }) })

/** Opens descriptors up to 3000, some apart, closes from 5 on, and prints which of all are still open. */
const program = `
#include <sys/syscall.h>
#ifdef OLD_KERNEL
#undef SYS_close_range
#define SYS_close_range -1
#endif
#include "close_from.c"
#include <stdio.h>
int main(void)
{
    for (int fd = 3; fd < 1000; fd++)
        if (dup2(0, fd) < 0)
            return 2;
    if (dup2(0, 3000) < 0 || !close_from(5))
        return 3;
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d ", fd);
}
`

beforeAll(() => { writeFileSync(join(directory, 'program.c'), program) })

test.each([['by close_range', []], ['on a kernel without close_range', ['-DOLD_KERNEL']]])('all descriptors from one on are closed %s', async (_, flags) => {
  const binary = join(directory, 'program')
  await execa('cc', ['-std=gnu17', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined', ...flags, '-I', join(spank, 'plugin'), '-o', binary, join(directory, 'program.c')])
  const { stdout } = await execa('sh', ['-c', 'ulimit -n 4096; exec "$0" </dev/null', binary])
  expect(stdout.trim()).toBe('0 1 2 3 4')
})
