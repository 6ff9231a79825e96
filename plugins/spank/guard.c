/*
 * guard: the batch task as Slurm knows it. Waits, turns Slurm's signals into questions to the daemon, ends like the
 * payload. Without the daemon it decides by itself (docs/reference/sandbox-protocol.md, "Fail open").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "line.h"
#include "roles.h"

#define PENDING_MAX 16
#define SCOPE_MS 20       /* pid1 reports a signal to the whole step within this */
#define ANSWER_MS 1000    /* the daemon answers a signal within this, or it is delivered */
#define RECONNECT_MS 500
#define REQUEUE_ALONE_MS 60000
#define REQUEUE_AGAIN_MS 30000
#define GIVE_UP_RESTORE_MS 120000

struct pending {
    int number;
    bool to_all, asked;
    long long due;
};

struct guard {
    const char *words; /* what the plugin left: job, uid, sandbox, ... */
    int daemon, signals;
    pid_t pid1;
    int doorbell;
    bool restoring, killed, held;
    int killed_status;
    long long alone_since, next_try, next_rescue;
    struct pending pending[PENDING_MAX];
    struct line_reader reader;
};

static long long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void to_pid1(enum internal_kind kind, int value)
{
    struct internal_message message = {.kind = kind, .value = value};
    (void)send(GUARD_PID1_FD, &message, sizeof message, MSG_NOSIGNAL);
}

static void to_daemon(struct guard *self, const char *line)
{
    if (self->daemon >= 0)
        (void)line_send(self->daemon, line);
}

/* Slurm removes the step's cgroup next: ours below it must be gone. Killed processes linger for milliseconds. */
static void remove_cgroups(const struct guard *self)
{
    char path[1024];
    for (int i = 0; line_value(self->words, "cgroup", i, path, sizeof path); i++)
        for (int tries = 0; tries < 400 && rmdir(path) != 0 && errno == EBUSY; tries++)
            usleep(5000);
}

static _Noreturn void finish(const struct guard *self, int wait_status)
{
    (void)kill(self->pid1, SIGKILL);
    while (waitpid(self->pid1, NULL, 0) < 0 && errno == EINTR)
        ;
    remove_cgroups(self);
    end_like(wait_status);
}

static void run_scontrol(const struct guard *self, const char *verb)
{
    char program[512], job[24];
    snprintf(job, sizeof job, "%lld", line_number(self->words, "job", 0));
    if (!line_value(self->words, "scontrol", 0, program, sizeof program))
        return;
    if (fork() == 0) {
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        execl(program, "scontrol", verb, job, (char *)NULL);
        _exit(127);
    }
}

/* --- signals ---------------------------------------------------------------------------------------------------- */

static void settle(struct guard *self, struct pending *signal, bool deliver)
{
    (void)self;
    if (deliver)
        to_pid1(signal->to_all ? DELIVER_ALL : DELIVER_TASK, signal->number);
    signal->number = 0;
}

static void ask(struct guard *self, struct pending *signal)
{
    char line[64];
    snprintf(line, sizeof line, "signal number=%d scope=%s", signal->number, signal->to_all ? "all" : "task");
    signal->asked = true;
    signal->due = now_ms() + ANSWER_MS;
    if (self->daemon < 0 || !line_send(self->daemon, line))
        settle(self, signal, signal->number != self->doorbell);
}

static struct pending *find_pending(struct guard *self, int number)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (self->pending[i].number == number)
            return &self->pending[i];
    return NULL;
}

/* Suspension and continuation need no decision; SIGTSTP would not stop a session without a terminal. */
static bool deliver_at_once(int number)
{
    if (number == SIGTSTP)
        to_pid1(DELIVER_ALL, SIGSTOP);
    else if (number == SIGCONT)
        to_pid1(DELIVER_ALL, SIGCONT);
    return number == SIGTSTP || number == SIGCONT;
}

static void take_signal(struct guard *self)
{
    struct signalfd_siginfo info;
    if (read(self->signals, &info, sizeof info) != sizeof info)
        return;
    int number = (int)info.ssi_signo;
    if (number == SIGCHLD) {
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == self->pid1)
                finish(self, WIFSIGNALED(status) ? status : 1 << 8); /* Ended without a word: the sandbox was killed. */
        return;
    }
    if (deliver_at_once(number) || find_pending(self, number) != NULL)
        return;
    struct pending *slot = find_pending(self, 0);
    if (slot != NULL)
        *slot = (struct pending){.number = number, .due = now_ms() + SCOPE_MS};
}

/* --- pid1 and the daemon ---------------------------------------------------------------------------------------- */

static void root_ended(struct guard *self, int status)
{
    char line[64];
    remove_cgroups(self);
    snprintf(line, sizeof line, "exit status=%d", status);
    to_daemon(self, line);
    finish(self, status);
}

static void take_pid1(struct guard *self)
{
    struct internal_message message;
    if (recv(GUARD_PID1_FD, &message, sizeof message, MSG_DONTWAIT) != sizeof message)
        return;
    struct pending *signal;
    switch (message.kind) {
    case SIGNAL_SEEN:
        signal = find_pending(self, message.value);
        if (signal == NULL && (signal = find_pending(self, 0)) != NULL && message.value != SIGCONT && message.value != SIGTSTP)
            *signal = (struct pending){.number = message.value, .due = now_ms()};
        if (signal != NULL && signal->number != 0 && !signal->asked) {
            signal->to_all = true;
            ask(self, signal);
        }
        break;
    case ROOT_ENDED:
        root_ended(self, message.value);
        break;
    case ROOT_KILLED:
        self->killed = true;
        self->killed_status = message.value;
        to_daemon(self, "killed");
        break;
    default:
        break;
    }
}

static void take_line(struct guard *self, const char *line)
{
    char text[LINE_MAX_BYTES];
    struct pending *signal = find_pending(self, (int)line_number(line, "number", -1));
    if (line_is(line, "pass") && signal != NULL) {
        settle(self, signal, true);
    } else if (line_is(line, "pass")) {
        /* A second word on a signal that was dropped while the daemon tried to save the job. */
        bool all = line_value(line, "scope", 0, text, sizeof text) && strcmp(text, "all") == 0;
        to_pid1(all ? DELIVER_ALL : DELIVER_TASK, (int)line_number(line, "number", 0));
    } else if (line_is(line, "drop") && signal != NULL) {
        settle(self, signal, false);
    } else if (line_is(line, "hold")) {
        self->held = true;
        to_pid1(HOLD, 0);
        to_daemon(self, "held");
    } else if (line_is(line, "unhold")) {
        self->held = self->killed = false;
        to_pid1(UNHOLD, 0);
        to_daemon(self, "unheld");
    } else if (line_is(line, "restored")) {
        self->restoring = false;
        to_pid1(RESTORED, 0);
    } else if (line_is(line, "say") && line_value(line, "text", 0, text, sizeof text)) {
        dprintf(STDERR_FILENO, "stint: %s\n", text);
    } else if (line_is(line, "release")) {
        finish(self, (int)line_number(line, "status", 0) << 8);
    }
}

static void take_daemon(struct guard *self)
{
    char line[LINE_MAX_BYTES];
    int got = line_receive(self->daemon, &self->reader, line);
    for (; got > 0; got = memchr(self->reader.text, '\n', self->reader.length) != NULL ? line_receive(self->daemon, &self->reader, line) : 0)
        take_line(self, line);
    if (got == 0)
        return;
    close(self->daemon);
    self->daemon = -1;
    self->alone_since = now_ms();
    self->next_try = self->alone_since + RECONNECT_MS;
    self->next_rescue = self->alone_since + (self->killed ? REQUEUE_ALONE_MS : GIVE_UP_RESTORE_MS);
}

static void reconnect(struct guard *self)
{
    char socket[108], line[LINE_MAX_BYTES];
    self->next_try = now_ms() + RECONNECT_MS;
    if (!line_value(self->words, "socket", 0, socket, sizeof socket) || (self->daemon = line_connect(socket)) < 0)
        return;
    self->reader.length = 0;
    snprintf(line, sizeof line, "attach version=1%s pid=%d state=%s", strchr(self->words, ' '), getpid(), self->killed ? "killed" : self->held ? "held" : "running");
    to_daemon(self, line);
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static void look_at_clock(struct guard *self)
{
    long long now = now_ms();
    for (int i = 0; i < PENDING_MAX; i++) {
        struct pending *signal = &self->pending[i];
        if (signal->number == 0 || now < signal->due)
            continue;
        if (signal->asked)
            settle(self, signal, signal->number != self->doorbell);
        else
            ask(self, signal);
    }
    if (self->daemon >= 0)
        return;
    if (now >= self->next_try)
        reconnect(self);
    if (self->daemon >= 0 || now < self->next_rescue || !(self->killed || self->restoring))
        return;
    /* The image is sealed before root is killed: the queue is the right place for the job. */
    run_scontrol(self, self->killed ? "requeue" : "requeuehold");
    self->next_rescue = now + REQUEUE_AGAIN_MS;
}

static int next_timeout(const struct guard *self)
{
    long long next = self->daemon < 0 ? self->next_try : -1;
    for (int i = 0; i < PENDING_MAX; i++)
        if (self->pending[i].number != 0 && (next < 0 || self->pending[i].due < next))
            next = self->pending[i].due;
    if (next < 0)
        return -1;
    long long left = next - now_ms();
    return left > 0 ? (int)left : 0;
}

int guard_main(const char *line)
{
    char mode[16] = "";
    sigset_t all;
    struct guard self = {.words = line, .daemon = GUARD_DAEMON_FD};
    (void)line_value(line, "mode", 0, mode, sizeof mode);
    self.restoring = strcmp(mode, "restore") == 0;
    self.pid1 = (pid_t)line_number(line, "sandbox", 0);
    self.doorbell = (int)line_number(line, "doorbell", 0);
    sigfillset(&all);
    if (self.pid1 <= 0 || sigprocmask(SIG_SETMASK, &all, NULL) != 0 || (self.signals = signalfd(-1, &all, SFD_CLOEXEC)) < 0)
        return 1;
    if (waitpid(self.pid1, NULL, WNOHANG) == self.pid1)
        return 1;
    for (;;) {
        struct pollfd sources[] = {
            {.fd = self.signals, .events = POLLIN},
            {.fd = GUARD_PID1_FD, .events = POLLIN},
            {.fd = self.daemon, .events = POLLIN},
        };
        if (poll(sources, 3, next_timeout(&self)) < 0)
            continue;
        if (sources[1].revents & POLLIN)
            take_pid1(&self);
        if (sources[0].revents != 0)
            take_signal(&self);
        if (sources[2].revents != 0)
            take_daemon(&self);
        look_at_clock(&self);
    }
}
