/* stint-barrier: CRIU's action script. Exit status 0 only on the coordinator's clear word; silence is abort. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "line.h"
#include "roles.h"

int barrier_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
    const char *path = getenv("STINT_BARRIER");
    const char *seconds = getenv("STINT_BARRIER_TIMEOUT");
    char answer[16];
    size_t length = 0;
    if (action == NULL || strcmp(action, "post-dump") != 0)
        return 0;
    int fd = path != NULL ? line_connect(path) : -1;
    struct timeval limit = {.tv_sec = seconds != NULL ? atoi(seconds) : 60};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 || !line_send(fd, "post-dump"))
        return 1;
    for (ssize_t n = 1; n > 0 && length < sizeof answer; length += (size_t)n)
        if ((n = recv(fd, answer + length, sizeof answer - length, 0)) < 0)
            return 1;
    return length == 7 && memcmp(answer, "commit\n", 7) == 0 ? 0 : 1;
}
