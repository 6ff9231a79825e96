/*
 * Everything but a clear "commit" is abort: silence, too. A daemon that is started again decides in the place of the one that
 * has died, so a connection lost without a word is made again. The payload stands meanwhile, so nothing waits without a limit.
 */
#define _GNU_SOURCE
#include "barrier_word.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

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

static bool tell(int fd, const char *action)
{
    char line[64];
    size_t length = strlen(action);
    if (length + 1 > sizeof line)
        return false;
    memcpy(line, action, length);
    line[length] = '\n';
    return send(fd, line, length + 1, MSG_NOSIGNAL) == (ssize_t)length + 1;
}

static int seconds_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    int seconds = text != NULL ? atoi(text) : 0;
    return seconds > 0 && seconds <= SECONDS_MAX ? seconds : otherwise;
}

static enum word ask(const char *path, const char *action, long long deadline, int (*reach)(const char *path, int ms))
{
    long long left = deadline - now_ms();
    int fd = left > 0 ? reach(path, (int)left) : -1;
    if (fd < 0)
        return LOST;
    enum word word = tell(fd, action) ? take_word(fd, deadline) : LOST;
    close(fd);
    return word;
}

bool barrier_word(const char *action, int (*reach)(const char *path, int ms))
{
    const char *path = getenv("STINT_BARRIER");
    if (path == NULL)
        return false;
    long long deadline = now_ms() + seconds_of("STINT_BARRIER_TIMEOUT", TIMEOUT_SECONDS) * 1000LL;
    int tries = seconds_of("STINT_BARRIER_RECONNECT", RECONNECT_SECONDS) * (1000 / RETRY_MS);
    enum word word = ask(path, action, deadline, reach);
    for (; word == LOST && tries > 0 && now_ms() < deadline; tries--) {
        usleep(RETRY_MS * 1000);
        word = ask(path, action, deadline, reach);
    }
    return word == COMMIT;
}
