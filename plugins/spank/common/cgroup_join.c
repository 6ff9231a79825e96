#define _GNU_SOURCE
#include "cgroup_join.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

bool cgroup_join(const char *directory)
{
    char path[1100];
    int length = snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t written = write(fd, "0", 1); /* 0: whoever writes. */
    int error = errno;
    close(fd);
    errno = error;
    return written == 1;
}
