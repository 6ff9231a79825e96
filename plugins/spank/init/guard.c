#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup_remove.h"
#include "clock.h"
#include "roles.h"

#define REMOVE_MS 2000

void guard_to_pid1(enum internal_kind kind, int value)
{
    struct internal_message message = {.kind = kind, .value = value};
    (void)send(GUARD_PID1_FD, &message, sizeof message, MSG_NOSIGNAL); /* A pid1 that is gone is a SIGCHLD. */
}

_Noreturn void guard_end(struct guard *self, int wait_status, bool is_own_end)
{
    char path[1024], line[64];
    if (self->pid1 > 0) {
        (void)kill(self->pid1, SIGKILL); /* and with it every process of its namespace */
        while (waitpid(self->pid1, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    /* Slurm removes the step's cgroups next: ours below must be gone. */
    for (int i = 0; line_value(self->words, "cgroup", i, path, sizeof path); i++)
        cgroup_remove(path, REMOVE_MS);
    snprintf(line, sizeof line, "exit status=%d", wait_status);
    if (is_own_end)
        (void)guard_tell(self, line);
    end_like(wait_status);
}

/* Whether a root that ends so soon after its restore is the end of the job, the daemon knows. */
static void root_ended(struct guard *self, int status)
{
    char line[64];
    if (now_ms() >= self->settled)
        guard_end(self, status, true);
    self->ended = true;
    self->end_status = status;
    self->end_due = now_ms() + END_ANSWER_MS;
    snprintf(line, sizeof line, "ended status=%d", status);
    if (!guard_tell(self, line))
        guard_end(self, status, true);
}

void guard_settle_end(struct guard *self, long long now)
{
    if (self->ended && (now >= self->end_due || self->daemon < 0))
        guard_end(self, self->end_status, true);
}

static void take_message(struct guard *self, const struct internal_message *message)
{
    switch (message->kind) {
    case SIGNAL_SEEN:
        pid1_saw_signal(self, message->value);
        break;
    case HELD:
        self->held = true;
        (void)guard_tell(self, "held");
        break;
    case UNHELD:
        self->held = self->killed = false;
        (void)guard_tell(self, "unheld");
        break;
    case ROOT_KILLED:
        self->killed = true;
        guard_set_rescue(self, now_ms());
        (void)guard_tell(self, "killed");
        break;
    case STRICT_REFUSED:
        dprintf(STDERR_FILENO, "stint: a program asked for strict seccomp mode and got EINVAL; it runs without that protection unless it has stopped by itself. "
                               "Submit without --stint if it needs it\n");
        break;
    case ROOT_ENDED:
        root_ended(self, message->value);
        break;
    default:
        break;
    }
}

static void take_pid1(struct guard *self)
{
    struct internal_message message;
    while (recv(GUARD_PID1_FD, &message, sizeof message, MSG_DONTWAIT) == sizeof message)
        take_message(self, &message);
}

static void reap(struct guard *self)
{
    int status, end = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == self->pid1) {
            self->pid1 = 0;
            end = WIFSIGNALED(status) ? status : FAILED;
        }
    if (end == 0)
        return;
    take_pid1(self); /* Its last word, if it had one, ends us with the right status. */
    guard_end(self, end, false);
}

static void take_signal(struct guard *self)
{
    struct signalfd_siginfo info;
    if (read(self->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD)
        reap(self);
    else if (info.ssi_pid != (uint32_t)getpid()) /* Our own SIGPIPE, when stderr is a pipe nobody reads. */
        guard_saw_signal(self, (int)info.ssi_signo);
}

static int timeout_of(const struct guard *self)
{
    long long next = guard_next_due(self), due = guard_daemon_due(self);
    if (due >= 0 && (next < 0 || due < next))
        next = due;
    if (self->ended && (next < 0 || self->end_due < next))
        next = self->end_due;
    if (next < 0)
        return -1;
    long long left = next - now_ms();
    return left > 0 ? (int)left : 0;
}

static bool prepare(struct guard *self)
{
    char mode[16] = "";
    sigset_t all;
    (void)line_value(self->words, "mode", 0, mode, sizeof mode);
    self->restoring = strcmp(mode, "restore") == 0;
    self->pid1 = (pid_t)line_number(self->words, "sandbox", 0);
    self->doorbell = (int)line_number(self->words, "doorbell", 0);
    self->answers = line_number(self->words, "attached", 0) == 1;
    sigfillset(&all);
    self->signals = sigprocmask(SIG_SETMASK, &all, NULL) == 0 ? signalfd(-1, &all, SFD_CLOEXEC) : -1;
    return self->pid1 > 0 && self->signals >= 0 && fcntl(GUARD_DAEMON_FD, F_SETFD, FD_CLOEXEC) == 0 && fcntl(GUARD_PID1_FD, F_SETFD, FD_CLOEXEC) == 0;
}

int guard_main(const char *line)
{
    static struct guard self;
    self = (struct guard){.words = line, .daemon = GUARD_DAEMON_FD, .accepted = true};
    if (!prepare(&self))
        return 1;
    reap(&self); /* A child that ended before signals were blocked has left no SIGCHLD. */
    for (;;) {
        struct pollfd sources[] = {
            {.fd = self.signals, .events = POLLIN},
            {.fd = GUARD_PID1_FD, .events = POLLIN},
            {.fd = self.daemon, .events = POLLIN},
        };
        if (poll(sources, 3, timeout_of(&self)) < 0)
            continue;
        if (sources[1].revents & POLLIN)
            take_pid1(&self);
        if (sources[0].revents != 0)
            take_signal(&self);
        if (sources[2].revents != 0 && self.daemon == sources[2].fd)
            guard_take_daemon(&self);
        long long now = now_ms();
        guard_settle_overdue(&self, now);
        guard_settle_end(&self, now);
        if (!self.accepted)
            guard_without_daemon(&self, now);
    }
}
