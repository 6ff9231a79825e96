/* The guard's connection to the daemon: lines, reconnection, and what the guard does when it stays alone. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "guard.h"
#include "scontrol.h"

void guard_set_rescue(struct guard *self, long long now)
{
    self->next_rescue = now + (self->killed ? RESCUE_KILLED_MS : RESCUE_RESTORE_MS);
}

/* The clock starts when a daemon that cared for the job is lost, and no connection alone sets it back. */
static void lose_daemon(struct guard *self)
{
    long long now = now_ms();
    close(self->daemon);
    self->daemon = -1;
    self->next_try = now + RECONNECT_MS;
    if (self->accepted && now - self->accepted_at >= STEADY_MS)
        guard_set_rescue(self, now);
    self->accepted = false;
}

static void accept_guard(struct guard *self)
{
    if (self->accepted)
        return;
    self->accepted = true;
    self->accepted_at = now_ms();
}

bool guard_tell(struct guard *self, const char *line)
{
    if (self->daemon < 0)
        return false;
    if (line_send(self->daemon, line))
        return true;
    lose_daemon(self);
    return false;
}

static void settle(struct guard *self, long long seconds)
{
    self->settled = now_ms() + seconds * 1000;
    guard_to_pid1(SETTLE, (int)(seconds * 1000));
}

static void take_line(struct guard *self, const char *line)
{
    char text[LINE_MAX_BYTES];
    if (line_is(line, "attached")) {
        accept_guard(self);
    } else if (line_is(line, "pass") || line_is(line, "drop")) {
        bool to_all = line_value(line, "scope", 0, text, sizeof text) && strcmp(text, "all") == 0;
        guard_take_answer(self, (int)line_number(line, "number", 0), line_is(line, "pass"), to_all);
    } else if (line_is(line, "wait")) {
        guard_postpone(self, (int)line_number(line, "number", 0));
    } else if (line_is(line, "hold")) {
        guard_to_pid1(HOLD, 0); /* Its HELD answers the daemon. */
    } else if (line_is(line, "unhold")) {
        guard_to_pid1(UNHOLD, 0);
    } else if (line_is(line, "restored")) {
        self->restoring = false;
        settle(self, line_number(line, "settle", 0));
        guard_to_pid1(RESTORED, 0);
    } else if (line_is(line, "settle")) {
        settle(self, line_number(line, "seconds", 0));
    } else if (line_is(line, "wake") && line_number(line, "pid", 0) > 1) {
        guard_to_pid1(WAKE, (int)line_number(line, "pid", 0));
    } else if (line_is(line, "say") && line_value(line, "text", 0, text, sizeof text)) {
        dprintf(STDERR_FILENO, "stint: %s\n", text);
    } else if (line_is(line, "end") && self->ended) {
        guard_end(self, self->end_status, true);
    } else if (line_is(line, "again") && self->ended) {
        self->ended = false; /* The daemon restores the payload once more, or another checkpoint. */
        self->restoring = true;
        guard_set_rescue(self, now_ms());
    } else if (line_is(line, "release")) {
        guard_end(self, ((int)line_number(line, "status", 0) & 0xff) << 8, false);
    }
}

void guard_take_daemon(struct guard *self)
{
    char line[LINE_MAX_BYTES];
    int got = line_receive(self->daemon, &self->reader, line);
    while (got > 0) {
        take_line(self, line);
        /* A line may have lost the connection; else take what is there, and never wait for more. */
        if (self->daemon < 0 || memchr(self->reader.text, '\n', self->reader.length) == NULL)
            return;
        got = line_receive(self->daemon, &self->reader, line);
    }
    if (got < 0)
        lose_daemon(self);
}

static void reconnect(struct guard *self, long long now)
{
    char socket[108], line[LINE_MAX_BYTES];
    self->next_try = now + RECONNECT_MS;
    if (!line_value(self->words, "socket", 0, socket, sizeof socket) || (self->daemon = line_connect(socket, SEND_MS)) < 0)
        return;
    self->reader.length = 0;
    int length = snprintf(line, sizeof line, "attach version=1%s pid=%d state=%s", strchr(self->words, ' '), (int)getpid(),
                          self->killed ? "killed" : self->held ? "held" : "running");
    if (length <= 0 || (size_t)length >= sizeof line || !guard_tell(self, line))
        return;
    if (!self->answers)
        accept_guard(self);
    guard_ask_again(self);
}

static bool needs_rescue(const struct guard *self)
{
    return self->killed || self->restoring;
}

long long guard_daemon_due(const struct guard *self)
{
    if (self->accepted)
        return -1;
    if (self->daemon < 0 && (!needs_rescue(self) || self->next_try < self->next_rescue))
        return self->next_try;
    return needs_rescue(self) ? self->next_rescue : -1;
}

void guard_without_daemon(struct guard *self, long long now)
{
    if (self->daemon < 0 && now >= self->next_try)
        reconnect(self, now);
    if (self->accepted || now < self->next_rescue || !needs_rescue(self))
        return;
    /* A member that has lost its daemon is nothing the job's coordinator waits for: it sees the step end. */
    if (line_number(self->words, "member", 0) > 0)
        guard_end(self, FAILED, false);
    /* The image is sealed before root is killed: the queue is the right place for the job. */
    scontrol_put_back(self->words, self->killed ? "requeue" : "requeuehold");
    self->next_rescue = now + RESCUE_AGAIN_MS;
}
