/* stint-init join CGROUP... -- PROGRAM ARGS...: runs a program inside these cgroups from its first instruction. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "roles.h"

static int join(const char *cgroup)
{
    char path[1100];
    int length = snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    if (length < 0 || (size_t)length >= sizeof path)
        return -1;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, "0", 1);
    close(fd);
    return written == 1 ? 0 : -1;
}

int join_main(int argc, char **argv)
{
    int i = 0;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (join(argv[i]) != 0) {
            perror(argv[i]);
            return 126;
        }
    if (i + 1 >= argc)
        return 2;
    execv(argv[i + 1], argv + i + 1);
    perror(argv[i + 1]);
    return 127;
}
