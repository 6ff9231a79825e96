#define _GNU_SOURCE
#include "agent_output.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define LOOK_MS 200

void agent_output(int fd, const char *bytes, size_t length, void (*meanwhile)(void *), void *context)
{
    struct pollfd sink = {.fd = fd, .events = POLLOUT};
    while (length > 0) {
        if (poll(&sink, 1, LOOK_MS) <= 0) {
            meanwhile(context);
            continue;
        }
        /* No more than a pipe takes without blocking when it is ready. */
        ssize_t written = write(fd, bytes, length < PIPE_BUF ? length : PIPE_BUF);
        if (written < 0 && errno != EAGAIN && errno != EINTR)
            return;
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        }
    }
}
