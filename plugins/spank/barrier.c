/*
 * stint-barrier: CRIU's action script. Exit status 0 only on the coordinator's clear word; silence is abort. The payload
 * is frozen meanwhile, so nothing here may wait without a limit.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "line.h"
#include "roles.h"

#define DEFAULT_SECONDS 60

/* Whether all that comes until the end of the connection is this. */
static bool answer_is(int fd, const char *wanted, long long deadline)
{
    char answer[16];
    size_t length = 0;
    struct pollfd source = {.fd = fd, .events = POLLIN};
    while (length < sizeof answer) {
        long long left = deadline - now_ms();
        if (left <= 0 || poll(&source, 1, (int)left) <= 0)
            return false;
        ssize_t got = recv(fd, answer + length, sizeof answer - length, 0);
        if (got < 0)
            return false;
        if (got == 0)
            return length == strlen(wanted) && memcmp(answer, wanted, length) == 0;
        length += (size_t)got;
    }
    return false;
}

int barrier_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
    const char *path = getenv("STINT_BARRIER");
    const char *text = getenv("STINT_BARRIER_TIMEOUT");
    if (action == NULL || strcmp(action, "post-dump") != 0)
        return 0;
    int seconds = text != NULL ? atoi(text) : 0;
    if (seconds <= 0 || seconds > 86400)
        seconds = DEFAULT_SECONDS;
    long long deadline = now_ms() + seconds * 1000LL;
    int fd = path != NULL ? line_connect(path, seconds * 1000) : -1;
    return fd >= 0 && line_send(fd, "post-dump") && answer_is(fd, "commit\n", deadline) ? 0 : 1;
}
