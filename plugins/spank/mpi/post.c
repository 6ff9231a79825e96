#define _GNU_SOURCE
#include "post.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define PATIENCE_SECONDS 30

bool post_open(struct post *post, int ms)
{
    const char *path = getenv("STINT_POST");
    post->reader.length = 0;
    post->deadline = now_ms() + ms;
    post->fd = path != NULL ? line_connect(path, ms) : -1;
    return post->fd >= 0;
}

/* Waits until the connection can be read or written; false at the deadline. */
static bool await(const struct post *post, short events)
{
    struct pollfd source = {.fd = post->fd, .events = events};
    for (;;) {
        long long left = post->deadline - now_ms();
        if (left <= 0)
            return false;
        if (poll(&source, 1, (int)left) > 0)
            return true;
    }
}

bool post_send(struct post *post, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        if (!await(post, POLLOUT))
            return false;
        ssize_t sent = send(post->fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent > 0) {
            at += sent;
            length -= (size_t)sent;
        }
    }
    return true;
}

bool post_answer(struct post *post, char line[LINE_MAX_BYTES])
{
    return line_await(post->fd, &post->reader, line, post->deadline);
}

bool post_body(struct post *post, void *bytes, size_t length)
{
    char *at = bytes;
    size_t early = post->reader.length < length ? post->reader.length : length;
    memcpy(at, post->reader.text, early);
    post->reader.length -= early;
    memmove(post->reader.text, post->reader.text + early, post->reader.length);
    for (size_t got = early; got < length;) {
        if (!await(post, POLLIN))
            return false;
        ssize_t n = recv(post->fd, at + got, length - got, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0)
            got += (size_t)n;
    }
    return true;
}

void post_close(struct post *post)
{
    if (post->fd >= 0)
        close(post->fd);
    post->fd = -1;
}

bool post_ask(struct post *post, const char *request, const void *body, size_t length, char line[LINE_MAX_BYTES])
{
    return post_open(post, POST_MS) && line_send(post->fd, request) && post_send(post, body, length) && post_answer(post, line);
}

bool post_tell(const char *request, const void *body, size_t length)
{
    static struct post post;
    char line[LINE_MAX_BYTES];
    bool told = post_ask(&post, request, body, length, line) && (line_is(line, "ok") || line_is(line, "unknown"));
    post_close(&post);
    return told;
}

int post_patience_ms(void)
{
    const char *text = getenv("STINT_POST_PATIENCE");
    int seconds = text != NULL ? atoi(text) : 0;
    return (seconds > 0 && seconds <= 3600 ? seconds : PATIENCE_SECONDS) * 1000;
}
