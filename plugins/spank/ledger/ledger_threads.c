/* Of each thread: the CPUs it may use, and whether it shares directories and descriptors with its process. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ledger.h"

#define MASK_BYTES 1024 /* 8192 CPUs, the most that Linux is built for. */
/* linux/kcmp.h: the libc of a static build may come without the kernel's headers. */
#define KCMP_FILES 2
#define KCMP_FS 3

void ledger_for_each_thread(int pid, void (*act)(int pid, int tid))
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;)
        if (isdigit((unsigned char)entry->d_name[0]))
            act(pid, atoi(entry->d_name));
    closedir(threads);
}

/* The system call: it says how much of the mask there is. Byte 0 has CPUs 0 to 7 on little-endian machines. */
static void record_thread(int pid, int tid)
{
    unsigned char mask[MASK_BYTES];
    long length = syscall(SYS_sched_getaffinity, tid, sizeof mask, mask);
    if (length <= 0)
        return;
    printf("thread %d %d ", pid, tid);
    ledger_print_hex(mask, (size_t)length);
    putchar('\n');
}

void ledger_record_threads(int pid)
{
    ledger_for_each_thread(pid, record_thread);
}

void ledger_put_affinity(int tid, const char *text)
{
    unsigned char mask[MASK_BYTES];
    int length = ledger_read_hex(text, mask, sizeof mask);
    if (length <= 0 || syscall(SYS_sched_setaffinity, tid, length, mask) != 0)
        printf("failed affinity %d %s\n", tid, strerror(length <= 0 ? EINVAL : errno));
}

static void look_at_thread(int pid, int tid)
{
    if (tid == pid)
        return;
    if (syscall(SYS_kcmp, pid, tid, KCMP_FS, 0, 0) > 0)
        printf("own-fs %d %d\n", pid, tid);
    if (syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) > 0)
        printf("own-files %d %d\n", pid, tid);
}

void ledger_look_at_threads(int pid)
{
    ledger_for_each_thread(pid, look_at_thread);
}
