#define _GNU_SOURCE
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command_exec.h"
#include "post.h"

#define LEFT_BEHIND_MS 1000
#define GATHER_MS 20 /* a program that prints line by line costs the daemon no more than 50 requests a second */

static void close_stream(struct stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}

static bool open_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0)
        return true;
    close(ends[0]);
    close(ends[1]);
    return false;
}

static bool open_pipes(int ends[2][2])
{
    if (!open_pipe(ends[0]))
        return false;
    if (open_pipe(ends[1]))
        return true;
    close(ends[0][0]);
    close(ends[0][1]);
    return false;
}

bool command_start(struct command *command, long long id, char *body, size_t length)
{
    int ends[2][2];
    if (!command_body_is_sound(body, length) || !open_pipes(ends))
        return false;
    pid_t pid = fork();
    if (pid == 0)
        command_exec(body, length, ends[0][1], ends[1][1]);
    for (int i = 0; i < 2; i++) {
        close(ends[i][1]);
        if (pid < 0)
            close(ends[i][0]);
        command->streams[i].fd = pid < 0 ? -1 : ends[i][0];
        command->streams[i].sent = command->streams[i].held = 0;
    }
    if (pid < 0)
        return false;
    command->id = id;
    command->pid = pid;
    command->ended = false;
    command->gather_until = 0;
    return true;
}

static void read_stream(struct stream *stream)
{
    while (stream->fd >= 0 && stream->held < sizeof stream->bytes) {
        ssize_t n = read(stream->fd, stream->bytes + stream->held, sizeof stream->bytes - stream->held);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            close_stream(stream);
        else
            stream->held += (size_t)n;
    }
}

void command_read(struct command *command)
{
    for (int i = 0; i < 2; i++)
        read_stream(&command->streams[i]);
}

void command_ended(struct command *command, int status, long long now)
{
    command->ended = true;
    command->status = status;
    command->close_at = now + LEFT_BEHIND_MS;
}

long long command_next_event(const struct command *command, long long otherwise)
{
    long long next = otherwise;
    for (int i = 0; i < 2; i++)
        if (command->streams[i].held > 0 && command->gather_until < next)
            next = command->gather_until;
    return command->ended && command->close_at < next ? command->close_at : next;
}

static bool report_stream(struct command *command, int i)
{
    struct stream *stream = &command->streams[i];
    char request[160];
    if (stream->held == 0)
        return true;
    snprintf(request, sizeof request, "output id=%lld stream=%d offset=%llu bytes=%zu", command->id, i + 1, stream->sent, stream->held);
    if (!post_tell(request, stream->bytes, stream->held))
        return false;
    stream->sent += stream->held;
    stream->held = 0;
    return true;
}

/* What has come is told at once after a pause, else gathered for a moment. */
static bool report_output(struct command *command, long long now)
{
    size_t held = command->streams[0].held + command->streams[1].held;
    bool is_full = command->streams[0].held == OUTPUT_HELD_MAX || command->streams[1].held == OUTPUT_HELD_MAX;
    if (held == 0 || (now < command->gather_until && !is_full && !command->ended))
        return true;
    if (!report_stream(command, 0) || !report_stream(command, 1))
        return false;
    command->gather_until = now + GATHER_MS;
    return true;
}

bool command_report(struct command *command, long long now)
{
    char request[96];
    if (!report_output(command, now))
        return false;
    if (!command->ended)
        return true;
    if (now >= command->close_at)
        for (int i = 0; i < 2; i++) {
            read_stream(&command->streams[i]);
            if (command->streams[i].held == 0)
                close_stream(&command->streams[i]);
        }
    for (int i = 0; i < 2; i++)
        if (command->streams[i].fd >= 0 || command->streams[i].held > 0)
            return true;
    snprintf(request, sizeof request, "ended id=%lld status=%d", command->id, command->status);
    if (!post_tell(request, NULL, 0))
        return false;
    command->pid = 0;
    return true;
}
