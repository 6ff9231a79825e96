#define _GNU_SOURCE
#include "standard_streams.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_file(int a, int b, bool with_flags)
{
    struct stat of_a, of_b;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino &&
           (!with_flags || fcntl(a, F_GETFL) == fcntl(b, F_GETFL));
}

/* Whether a path names it: pipes and sockets need nothing. */
static bool has_path(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISCHR(status.st_mode));
}

static void reopen(int fd)
{
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int flags = fcntl(fd, F_GETFL);
    if (length <= 0 || flags < 0)
        return;
    path[length] = '\0';
    int new_fd = open(path, (flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC)) | O_NOCTTY | O_CLOEXEC);
    if (new_fd < 0)
        return;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (same_file(fd, new_fd, false) && (at < 0 || lseek(new_fd, at, SEEK_SET) == at))
        (void)dup2(new_fd, fd);
    close(new_fd);
}

void standard_streams_reopen(void)
{
    /* Output and error are often one open file, with one position. */
    bool one_file = has_path(1) && same_file(1, 2, true);
    for (int fd = 0; fd <= 2; fd++)
        if (has_path(fd) && !(fd == 2 && one_file))
            reopen(fd);
    if (one_file)
        (void)dup2(1, 2);
}
