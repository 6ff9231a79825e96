/*
 * LD_PRELOAD for criu, part of criu-shim.so: the limits of processes with other ids.
 *
 * CRIU asks for a task's limits with prlimit, which wants all of its ids to be the caller's, or CAP_SYS_RESOURCE. The kernel
 * shows them to everybody in /proc/PID/limits: so set-gid programs such as ssh-agent can be saved. Proper place:
 * dump_task_rlimits() in criu/cr-dump.c; this can go when CRIU reads them there.
 *
 * The same function of libc makes open_by_handle_at, for which alone CRIU has CAP_DAC_READ_SEARCH (criu_paths.c).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu_identity.h"

/* Names of the lines, by the limit's number: fs/proc/base.c of Linux. */
static const char *const line_names[RLIM_NLIMITS] = {
    [RLIMIT_CPU] = "Max cpu time",
    [RLIMIT_FSIZE] = "Max file size",
    [RLIMIT_DATA] = "Max data size",
    [RLIMIT_STACK] = "Max stack size",
    [RLIMIT_CORE] = "Max core file size",
    [RLIMIT_RSS] = "Max resident set",
    [RLIMIT_NPROC] = "Max processes",
    [RLIMIT_NOFILE] = "Max open files",
    [RLIMIT_MEMLOCK] = "Max locked memory",
    [RLIMIT_AS] = "Max address space",
    [RLIMIT_LOCKS] = "Max file locks",
    [RLIMIT_SIGPENDING] = "Max pending signals",
    [RLIMIT_MSGQUEUE] = "Max msgqueue size",
    [RLIMIT_NICE] = "Max nice priority",
    [RLIMIT_RTPRIO] = "Max realtime priority",
    [RLIMIT_RTTIME] = "Max realtime timeout",
};

/* One number or "unlimited", which is all bits set, as prlimit has it. */
static bool read_value(char **text, rlim_t *value)
{
    static const char unlimited[] = "unlimited";
    *text += strspn(*text, " ");
    if (strncmp(*text, unlimited, sizeof unlimited - 1) == 0) {
        *text += sizeof unlimited - 1;
        *value = RLIM_INFINITY;
        return true;
    }
    char *end;
    errno = 0;
    *value = strtoull(*text, &end, 10);
    bool read = end != *text && errno == 0;
    *text = end;
    return read;
}

static bool read_limit(pid_t pid, int resource, struct rlimit *limit)
{
    char path[32], line[256];
    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = strlen(line_names[resource]);
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *values = line + length;
        found = strncmp(line, line_names[resource], length) == 0 && read_value(&values, &limit->rlim_cur) && read_value(&values, &limit->rlim_max);
    }
    fclose(file);
    return found;
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long argument[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        argument[i] = va_arg(arguments, long);
    va_end(arguments);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    if (number == SYS_open_by_handle_at)
        identity_enter(FINDER);
    long result = real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    if (number == SYS_open_by_handle_at)
        identity_leave(FINDER);
    bool asked = number == SYS_prlimit64 && argument[2] == 0 && argument[3] != 0 && argument[1] >= 0 && argument[1] < RLIM_NLIMITS;
    if (result == -1 && errno == EPERM && asked) {
        if (read_limit((pid_t)argument[0], (int)argument[1], (struct rlimit *)argument[3]))
            return 0;
        errno = EPERM;
    }
    return result;
}
