/*
 * stint-agent: the remote shell that MPI launchers are given in a sandbox. Asks the local daemon to run the command on
 * another host of the job, copies its output, ends as it ends, all like ssh. While it waits it holds no connection.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent_output.h"
#include "agent_words.h"
#include "clock.h"
#include "post.h"
#include "roles.h"

#define LAUNCH_MS 60000      /* the daemon may have to make a sandbox first */
#define TAKE_MAX (32 * 1024) /* output taken with one request */
#define FAILED_LIKE_SSH 255

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

struct agent {
    sigset_t awaited;
    long long id;
    unsigned long long taken[2]; /* bytes of its standard output and error that were written */
};

static _Noreturn void give_up(const char *text)
{
    dprintf(STDERR_FILENO, "stint-agent: %s\n", text);
    _exit(FAILED_LIKE_SSH);
}

/* Blocks the signals it waits for: a blocked signal is kept also where its default is to be ignored. What was ignored stays so. */
static bool await_signals(struct agent *self)
{
    sigemptyset(&self->awaited);
    sigaddset(&self->awaited, SIGURG);
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
        struct sigaction action;
        if (sigaction(passed_on[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&self->awaited, passed_on[i]);
    }
    return signal(SIGPIPE, SIG_IGN) != SIG_ERR && sigprocmask(SIG_BLOCK, &self->awaited, NULL) == 0;
}

/* The next awaited signal; 0 after `ms`. A wait that was cut short counts as a wake: asking once more does no harm. */
static int next_signal(const struct agent *self, int ms)
{
    const struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    int number = sigtimedwait(&self->awaited, NULL, &limit);
    return number > 0 ? number : errno == EINTR ? SIGURG : 0;
}

static void pass_on(const struct agent *self, int number)
{
    char request[128];
    snprintf(request, sizeof request, "signal id=%lld number=%d", self->id, number);
    while (!post_tell(request, NULL, 0))
        usleep(POST_RETRY_MS * 1000);
}

/* Passes on what has come; called also while the reader of our output lets us wait. */
static void pass_on_pending(void *context)
{
    const struct agent *self = context;
    for (int number; (number = next_signal(self, 0)) != 0;)
        if (number != SIGURG)
            pass_on(self, number);
}

/* Sends the request and the strings of its body; true when an answer has come. */
static bool ask_launch(struct post *post, const char *request, const struct agent_words *words, const char *directory, char line[LINE_MAX_BYTES])
{
    if (!post_open(post, LAUNCH_MS) || !line_send(post->fd, request) || !post_send(post, words->command, strlen(words->command) + 1) ||
        !post_send(post, directory, strlen(directory) + 1))
        return false;
    for (char **entry = environ; *entry != NULL; entry++)
        if (!post_send(post, *entry, strlen(*entry) + 1))
            return false;
    return post_answer(post, line);
}

static size_t body_length(const struct agent_words *words, const char *directory)
{
    size_t length = strlen(words->command) + 1 + strlen(directory) + 1;
    for (char **entry = environ; *entry != NULL; entry++)
        length += strlen(*entry) + 1;
    return length;
}

/*
 * Until the command is launched. `once` names this launch: a daemon that has taken it already, and was not heard, answers
 * with the same id again. Nothing depends on us yet, so signals end this process as ever.
 */
static void launch(struct agent *self, const struct agent_words *words)
{
    static struct post post;
    static char directory[PATH_MAX], request[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
    char once[64];
    long long end = now_ms() + 2 * post_patience_ms();
    if (getcwd(directory, sizeof directory) == NULL)
        strcpy(directory, "/");
    size_t length = body_length(words, directory);
    snprintf(once, sizeof once, "%d.%lld", (int)getpid(), now_ms());
    strcpy(request, "launch");
    if (length > POST_BODY_MAX || !line_add(request, sizeof request, "host", words->host) || !line_add(request, sizeof request, "once", once) ||
        !line_add_number(request, sizeof request, "bytes", (long long)length))
        give_up("the command and its environment are longer than 1 MiB");
    for (;;) {
        bool answered = ask_launch(&post, request, words, directory, line);
        post_close(&post);
        self->id = answered && line_is(line, "launched") ? line_number(line, "id", -1) : -1;
        if (self->id >= 0)
            return;
        if (answered && line_is(line, "refused"))
            give_up(line_value(line, "message", 0, request, sizeof request) ? request : "the daemon refuses this host");
        if (now_ms() >= end)
            give_up("the daemon does not answer on this node");
        int number = next_signal(self, POST_RETRY_MS);
        if (number != 0 && number != SIGURG)
            end_like(number);
    }
}

static _Noreturn void end_as_ssh(int wait_status)
{
    _exit((wait_status & 0x7f) == 0 ? (wait_status >> 8) & 0xff : FAILED_LIKE_SSH);
}

enum news { NOTHING, MORE, UNHEARD };

/*
 * Asks for news and copies the output that came with it. The connection is closed before anything is written: whoever reads
 * our output may take his time.
 */
static enum news take_news(struct agent *self)
{
    static struct post post;
    static char output[TAKE_MAX];
    char request[128], line[LINE_MAX_BYTES] = "";
    snprintf(request, sizeof request, "news id=%lld out=%llu err=%llu max=%d", self->id, self->taken[0], self->taken[1], TAKE_MAX);
    bool heard = post_ask(&post, request, NULL, 0, line);
    if (heard && line_is(line, "unknown"))
        give_up("the command was lost");
    long long lengths[] = {line_number(line, "out", 0), line_number(line, "err", 0)};
    bool ended = heard && line_is(line, "ended");
    bool sound = heard && (ended || line_is(line, "running")) && lengths[0] >= 0 && lengths[1] >= 0 && lengths[0] <= TAKE_MAX &&
                 lengths[1] <= TAKE_MAX - lengths[0] && lengths[0] + lengths[1] == line_number(line, "bytes", 0);
    bool whole = sound && post_body(&post, output, (size_t)(lengths[0] + lengths[1]));
    post_close(&post);
    if (!whole)
        return UNHEARD;
    agent_output(STDOUT_FILENO, output, (size_t)lengths[0], pass_on_pending, self);
    agent_output(STDERR_FILENO, output + lengths[0], (size_t)lengths[1], pass_on_pending, self);
    self->taken[0] += (unsigned long long)lengths[0];
    self->taken[1] += (unsigned long long)lengths[1];
    if (ended)
        end_as_ssh((int)line_number(line, "status", POST_LOST));
    return lengths[0] + lengths[1] > 0 ? MORE : NOTHING;
}

int agent_main(int argc, char **argv)
{
    static struct agent self;
    static struct agent_words words;
    if (!agent_words_take(&words, argc, argv) || !await_signals(&self))
        return FAILED_LIKE_SSH;
    launch(&self, &words);
    for (;;) {
        enum news news = take_news(&self);
        int number = next_signal(&self, news == MORE ? 0 : news == UNHEARD ? POST_RETRY_MS : post_patience_ms());
        if (number != 0 && number != SIGURG)
            pass_on(&self, number);
    }
}
