/* parked: a batch task that must not run its job now. Waits for the daemon's release or Slurm's kill. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "internal.h"
#include "line.h"
#include "roles.h"
#include "scontrol.h"

#define ALONE_MS 60000
#define AGAIN_MS 30000

/* False when the daemon has ended the connection. */
static bool take_daemon(struct line_reader *reader)
{
    char line[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
    int got = line_receive(PARKED_DAEMON_FD, reader, line);
    if (got > 0 && line_is(line, "release"))
        _exit((int)line_number(line, "status", 0));
    if (got > 0 && line_is(line, "say") && line_value(line, "text", 0, text, sizeof text))
        dprintf(STDERR_FILENO, "stint: %s\n", text);
    return got >= 0;
}

int parked_main(const char *line)
{
    static struct line_reader reader;
    sigset_t none;
    bool connected = fcntl(PARKED_DAEMON_FD, F_SETFD, FD_CLOEXEC) == 0;
    long long next = now_ms() + (line_number(line, "hold", 0) == 1 ? 0 : ALONE_MS);
    sigemptyset(&none);
    (void)signal(SIGCHLD, SIG_IGN); /* No zombies of scontrol. Every other signal ends us, as it would end the job. */
    if (sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        return 1;
    for (;;) {
        struct pollfd source = {.fd = connected ? PARKED_DAEMON_FD : -1, .events = POLLIN};
        long long left = next - now_ms();
        int ready = poll(&source, 1, connected ? -1 : left > 0 ? (int)left : 0);
        if (ready > 0 && !take_daemon(&reader)) {
            connected = false;
            next = now_ms() + ALONE_MS;
        } else if (!connected && now_ms() >= next) {
            /* Nobody else puts the job back, and it must neither run nor wait here for its time limit. */
            scontrol_put_back(line, "requeuehold");
            next = now_ms() + AGAIN_MS;
        }
    }
}
