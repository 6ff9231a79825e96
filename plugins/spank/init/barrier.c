/*
 * stint-barrier: CRIU's action script. Exit status 0 only on the daemon's clear word; silence is abort. The payload is frozen
 * meanwhile, so nothing here may wait without a limit. A daemon that is started again decides in the place of the one
 * that has died, so a connection lost without a word is made again.
 *
 * Before anything else is done it refuses a CRIU that would look up the user's paths as root (STINT_ACT_AS, criu_identity.c).
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "line.h"
#include "roles.h"

#define TIMEOUT_SECONDS 60
#define RECONNECT_SECONDS 20
#define SECONDS_MAX 86400
#define RETRY_MS 200

enum word { COMMIT, ABORT, LOST };

/* The first word that comes whole, and nothing after it; everything else that is not silence is abort. */
static enum word take_word(int fd, long long deadline)
{
    char text[16];
    size_t length = 0;
    struct pollfd source = {.fd = fd, .events = POLLIN};
    while (length < sizeof text) {
        long long left = deadline - now_ms();
        if (left <= 0)
            return ABORT;
        if (poll(&source, 1, (int)left) <= 0)
            continue;
        ssize_t got = recv(fd, text + length, sizeof text - length, 0);
        if (got <= 0)
            return length == 0 ? LOST : ABORT;
        length += (size_t)got;
        if (memchr(text, '\n', length) != NULL)
            return length == 7 && memcmp(text, "commit\n", length) == 0 ? COMMIT : ABORT;
    }
    return ABORT;
}

static enum word ask(const char *path, const char *action, long long deadline)
{
    long long left = deadline - now_ms();
    int fd = left > 0 ? line_connect(path, (int)left) : -1;
    if (fd < 0)
        return LOST;
    enum word word = line_send(fd, action) ? take_word(fd, deadline) : LOST;
    close(fd);
    return word;
}

static int seconds_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    int seconds = text != NULL ? atoi(text) : 0;
    return seconds > 0 && seconds <= SECONDS_MAX ? seconds : otherwise;
}

/* Whether CRIU, which has started this, has the user's file system identity: /proc/PID/status shows real, effective, saved and file system id. */
static bool acts_as_user(void)
{
    char path[32], line[128];
    unsigned wanted, uid = 0;
    const char *identity = getenv("STINT_ACT_AS");
    const char *ids = identity != NULL ? strchr(identity, ':') : NULL;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)getppid());
    FILE *status = ids != NULL && sscanf(ids, ":%u", &wanted) == 1 ? fopen(path, "re") : NULL;
    if (status == NULL)
        return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, status) != NULL)
        found = sscanf(line, "Uid: %*u %*u %*u %u", &uid) == 1;
    fclose(status);
    return found && uid == wanted;
}

int barrier_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
    const char *wanted = getenv("STINT_BARRIER_ACTION");
    const char *path = getenv("STINT_BARRIER");
    if (action == NULL || wanted == NULL || path == NULL)
        return 1;
    if (strncmp(action, "pre-", 4) == 0 && !acts_as_user()) {
        fputs("stint-barrier: CRIU does not act as the job's user: criu-shim.so is not in force\n", stderr);
        return 1;
    }
    if (strcmp(action, wanted) != 0)
        return 0;
    long long deadline = now_ms() + seconds_of("STINT_BARRIER_TIMEOUT", TIMEOUT_SECONDS) * 1000LL;
    int tries = seconds_of("STINT_BARRIER_RECONNECT", RECONNECT_SECONDS) * (1000 / RETRY_MS);
    enum word word = ask(path, action, deadline);
    for (; word == LOST && tries > 0 && now_ms() < deadline; tries--) {
        usleep(RETRY_MS * 1000);
        word = ask(path, action, deadline);
    }
    return word == COMMIT ? 0 : 1;
}
