/*
 * launcher: PID 1001 of a member that is not the batch host's, in the place of the user's script. Starts what MPI launchers
 * send to this host and hands back output and end. Like all of the payload it is dumped and goes on elsewhere, so it holds no
 * connection while it waits: the daemon wakes it with SIGURG when there is work.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "post.h"
#include "roles.h"

#define COMMANDS_MAX 64
#define END_MS 5000 /* from SIGTERM to SIGKILL for the commands, and once more for the last reports */
#define TERMINATED (128 + SIGTERM) /* not by the signal itself: root dying of a signal is what a dump looks like */

struct launcher {
    struct command commands[COMMANDS_MAX];
    long long done; /* the last order carried out */
    bool has_work;  /* there may be an order waiting */
    bool ending, killed;
    int exit_code;
    long long next_end; /* while ending: when patience is over */
    long long next_try; /* not before this, after a request that was not answered */
    long long next_ask; /* when to ask for work although nobody woke us: a wake may be lost with a daemon */
};

static volatile sig_atomic_t woken, terminated;

static void on_signal(int number)
{
    if (number == SIGURG)
        woken = 1;
    if (number == SIGTERM)
        terminated = 1;
}

static struct command *find(struct launcher *self, long long id)
{
    for (int i = 0; i < COMMANDS_MAX; i++)
        if (self->commands[i].pid > 0 && self->commands[i].id == id)
            return &self->commands[i];
    return NULL;
}

static struct command *find_free(struct launcher *self)
{
    for (int i = 0; i < COMMANDS_MAX; i++)
        if (self->commands[i].pid == 0)
            return &self->commands[i];
    return NULL;
}

static void signal_all(struct launcher *self, int number)
{
    for (int i = 0; i < COMMANDS_MAX; i++)
        if (self->commands[i].pid > 0 && !self->commands[i].ended)
            (void)kill(-self->commands[i].pid, number);
}

static void begin_end(struct launcher *self, int exit_code)
{
    if (self->ending)
        return;
    self->ending = true;
    self->exit_code = exit_code;
    self->next_end = now_ms() + END_MS;
    signal_all(self, SIGTERM);
}

/* A command that never was has an end, too. False when the daemon could not be told: the order will come again. */
static bool report_unstarted(long long id)
{
    static const char text[] = "stint: the command could not be started: too many at once on this host, or no memory\n";
    char output[96], end[96];
    snprintf(output, sizeof output, "output id=%lld stream=2 offset=0 bytes=%zu", id, sizeof text - 1);
    snprintf(end, sizeof end, "ended id=%lld status=%d", id, POST_LOST);
    return post_tell(output, text, sizeof text - 1) && post_tell(end, NULL, 0);
}

static bool start(struct launcher *self, struct post *post, const char *line)
{
    long long id = line_number(line, "id", -1), length = line_number(line, "bytes", 0);
    if (length <= 0 || length > POST_BODY_MAX) {
        post_close(post);
        return report_unstarted(id);
    }
    char *body = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (body == MAP_FAILED)
        return false;
    bool received = post_body(post, body, (size_t)length);
    post_close(post);
    struct command *place = received && !self->ending ? find_free(self) : NULL;
    bool started = place != NULL && command_start(place, id, body, (size_t)length);
    (void)munmap(body, (size_t)length);
    return started || (received && report_unstarted(id));
}

/* Carries out one order; false when it could not be received whole. */
static bool carry_out(struct launcher *self, struct post *post, const char *line)
{
    if (line_is(line, "start"))
        return start(self, post, line);
    if (line_is(line, "signal")) {
        const struct command *command = find(self, line_number(line, "id", -1));
        long long number = line_number(line, "number", 0);
        if (command != NULL && !command->ended && number > 0 && number < NSIG)
            (void)kill(-command->pid, (int)number);
    } else if (line_is(line, "quit")) {
        begin_end(self, 0);
    } else {
        return false;
    }
    return true;
}

/* Asks for the next order and carries it out, exactly once: the next question tells that it was. */
static bool ask_for_work(struct launcher *self)
{
    static struct post post;
    static char line[LINE_MAX_BYTES];
    char request[64];
    snprintf(request, sizeof request, "work after=%lld", self->done);
    bool answered = post_ask(&post, request, NULL, 0, line);
    bool done = answered && line_is(line, "none");
    long long number = answered ? line_number(line, "seq", -1) : -1;
    if (done) {
        self->has_work = false;
        self->next_ask = now_ms() + post_patience_ms();
    } else if (number > self->done && carry_out(self, &post, line)) {
        self->done = number;
        done = true;
    }
    post_close(&post);
    return done;
}

static void reap(struct launcher *self)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (int i = 0; i < COMMANDS_MAX; i++)
            if (self->commands[i].pid == pid && !self->commands[i].ended)
                command_ended(&self->commands[i], status, now_ms());
}

/* Says and asks what there is to say and ask; false when the daemon did not answer. */
static bool say_and_ask(struct launcher *self)
{
    for (int i = 0; i < COMMANDS_MAX; i++)
        if (self->commands[i].pid > 0 && !command_report(&self->commands[i], now_ms()))
            return false;
    return !self->has_work || ask_for_work(self);
}

static void deal_with_daemon(struct launcher *self)
{
    if (now_ms() >= self->next_try && !say_and_ask(self))
        self->next_try = now_ms() + POST_RETRY_MS;
}

static bool is_idle(const struct launcher *self)
{
    for (int i = 0; i < COMMANDS_MAX; i++)
        if (self->commands[i].pid > 0)
            return false;
    return true;
}

static void end_when_due(struct launcher *self)
{
    if (!self->ending)
        return;
    if (is_idle(self) || (self->killed && now_ms() >= self->next_end))
        _exit(self->exit_code);
    if (now_ms() < self->next_end)
        return;
    signal_all(self, SIGKILL);
    self->killed = true;
    self->next_end = now_ms() + END_MS;
}

static long long next_event(const struct launcher *self)
{
    long long now = now_ms(), next = self->has_work ? now : self->next_ask;
    if (self->next_try > now)
        next = self->next_try;
    if (self->ending && self->next_end < next)
        next = self->next_end;
    for (int i = 0; i < COMMANDS_MAX && self->next_try <= now; i++)
        if (self->commands[i].pid > 0)
            next = command_next_event(&self->commands[i], next);
    return next;
}

/* Until a signal, output there is room for, or the next event. */
static void wait_for_events(const struct launcher *self, const sigset_t *unblocked)
{
    struct pollfd sources[2 * COMMANDS_MAX];
    nfds_t count = 0;
    for (int i = 0; i < 2 * COMMANDS_MAX; i++) {
        const struct command *command = &self->commands[i / 2];
        const struct stream *stream = &command->streams[i % 2];
        if (command->pid > 0 && stream->fd >= 0 && stream->held < sizeof stream->bytes)
            sources[count++] = (struct pollfd){.fd = stream->fd, .events = POLLIN};
    }
    long long left = next_event(self) - now_ms();
    if (left < 0)
        left = 0;
    const struct timespec limit = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000L};
    (void)ppoll(sources, count, &limit, unblocked);
}

/* Only what is awaited may disturb, and only in ppoll; this process is not what the user's signals are meant for. */
static bool set_signals(sigset_t *unblocked)
{
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t all;
    sigfillset(&all);
    sigfillset(unblocked);
    for (int i = 0; i < 3; i++) {
        int number = (int[]){SIGURG, SIGCHLD, SIGTERM}[i];
        sigdelset(unblocked, number);
        if (sigaction(number, &action, NULL) != 0)
            return false;
    }
    return sigprocmask(SIG_SETMASK, &all, NULL) == 0;
}

int launcher_main(void)
{
    static struct launcher self;
    sigset_t unblocked;
    if (!set_signals(&unblocked))
        return 1;
    for (;;) {
        reap(&self);
        for (int i = 0; i < COMMANDS_MAX; i++)
            if (self.commands[i].pid > 0)
                command_read(&self.commands[i]);
        if (terminated)
            begin_end(&self, TERMINATED);
        if (woken || now_ms() >= self.next_ask)
            self.has_work = true;
        woken = 0;
        deal_with_daemon(&self);
        end_when_due(&self);
        wait_for_events(&self, &unblocked);
    }
}
