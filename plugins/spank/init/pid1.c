/* pid1: PID 1 of the sandbox, never dumped. Reaps, delivers signals on the guard's word, reports the end of root. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "internal.h"
#include "roles.h"
#include "seccomp_notice.h"

struct pid1 {
    bool held, live; /* live: root is the payload, not one of CRIU's attempts */
    bool ended;
    bool strict_refused; /* said already */
    int listener; /* -1: none */
    long long settled; /* when a restored root counts as one that came through */
    int status;
};

static void say(enum internal_kind kind, int value)
{
    struct internal_message message = {.kind = kind, .value = value};
    (void)send(PID1_GUARD_FD, &message, sizeof message, MSG_NOSIGNAL);
}

/* When root has ended: a dump when it was killed while held, the end of the job otherwise. */
static void conclude(struct pid1 *self)
{
    if (!self->ended || !self->live)
        return;
    if (self->held && WIFSIGNALED(self->status)) {
        say(ROOT_KILLED, self->status);
        return;
    }
    say(ROOT_ENDED, self->status);
    if (now_ms() >= self->settled)
        _exit(0);
    self->live = false; /* Another attempt may follow. */
}

static void reap(struct pid1 *self)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == ROOT_PID) {
            self->ended = true;
            self->status = status;
            conclude(self);
        }
}

static void take_signal(struct pid1 *self, int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD)
        reap(self);
    else
        say(SIGNAL_SEEN, (int)info.ssi_signo);
}

static void take_message(struct pid1 *self)
{
    struct internal_message message;
    ssize_t n = recv(PID1_GUARD_FD, &message, sizeof message, 0);
    if (n == 0 || (n < 0 && errno != EINTR))
        _exit(1); /* No guard, no sandbox. */
    if (n != sizeof message)
        return;
    switch (message.kind) {
    case DELIVER_ALL:
        (void)kill(-1, message.value); /* Everybody in this PID namespace but ourselves. */
        break;
    case DELIVER_TASK:
        (void)kill(SCRIPT_PID, message.value);
        break;
    case HOLD:
        self->held = true;
        say(HELD, 0);
        break;
    case UNHOLD:
        self->held = false;
        conclude(self);
        say(UNHELD, 0);
        break;
    case SETTLE:
        self->settled = now_ms() + message.value;
        break;
    case RESTORED:
        self->live = true;
        if (kill(ROOT_PID, 0) == 0)
            self->ended = false;
        conclude(self);
        break;
    case WAKE:
        (void)kill(message.value, SIGURG);
        break;
    default:
        break;
    }
}

static void close_listener(struct pid1 *self)
{
    (void)close(self->listener);
    self->listener = -1;
}

/* What the filter asks about waits for us, and for nobody else: nothing in here may block. */
static void take_call(struct pid1 *self)
{
    unsigned long long id;
    switch (seccomp_notice_take(self->listener, &id)) {
    case NOTICE_LANDLOCK:
        /* A process that is not seen would lose its protection by a move: then it does not get it at all, and knows. */
        if (prctl(PR_SET_NAME, PID1_LANDLOCK_NAME) == 0)
            seccomp_notice_continue(self->listener, id);
        else
            close_listener(self);
        break;
    case NOTICE_STRICT_REFUSED:
        if (!self->strict_refused)
            say(STRICT_REFUSED, 0);
        self->strict_refused = true;
        break;
    default:
        break;
    }
}

int pid1_main(bool restore)
{
    struct pid1 self = {.live = !restore, .listener = fcntl(PID1_LISTENER_FD, F_SETFD, FD_CLOEXEC) == 0 ? PID1_LISTENER_FD : -1};
    sigset_t all;
    /*
     * Blocked signals reach even PID 1 of a namespace, ignored and default ones never do: so we see what Slurm sends to
     * the whole step.
     */
    sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, NULL) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return 1;
    int fd = signalfd(-1, &all, SFD_CLOEXEC);
    if (fd < 0)
        return 1;
    reap(&self);
    for (;;) {
        struct pollfd sources[] = {{.fd = fd, .events = POLLIN}, {.fd = PID1_GUARD_FD, .events = POLLIN}, {.fd = self.listener, .events = POLLIN}};
        if (poll(sources, 3, -1) < 0)
            continue;
        if (sources[0].revents != 0)
            take_signal(&self, fd);
        if (sources[1].revents != 0)
            take_message(&self);
        if (sources[2].revents & POLLIN)
            take_call(&self);
        else if (sources[2].revents != 0) /* Nobody is left who has the filter. */
            close_listener(&self);
    }
}
