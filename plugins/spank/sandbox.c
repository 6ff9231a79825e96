#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup_wait.h"
#include "internal.h"
#include "line.h"
#include "opening.h"
#include "payload.h"
#include "private_view.h"

/* One line on the job's stderr; slurmstepd's own log is not the user's. */
static void tell_user(const char *text)
{
    dprintf(STDERR_FILENO, "stint: %s\n", text);
}

/* Receives one line within the socket's time limit. */
static bool next_line(struct opening *opening, char line[LINE_MAX_BYTES])
{
    int got;
    do
        got = line_receive(opening->daemon, &opening->reader, line);
    while (got == 0);
    return got > 0;
}

/* `refuse` and `park` carry a message for the user. */
static void tell_message(const char *line)
{
    char message[LINE_MAX_BYTES];
    if (line_value(line, "message", 0, message, sizeof message))
        tell_user(message);
}

/* The other end of the socket pair in the child: makes its view, says so, waits for the word. */
static void run_pid1(spank_t spank, struct opening *opening, int socket)
{
    char go = 0;
    /* The sandbox ends with its guard, whatever ends that. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || !private_view_make(opening) || write(socket, "m", 1) != 1)
        _exit(1);
    if (read(socket, &go, 1) != 1)
        _exit(1);
    if (opening->restore) {
        payload_exec_pid1(opening, socket);
        _exit(1);
    }
    if (payload_start(spank, opening, socket))
        return; /* script: on into slurmstepd's code */
    _exit(1);
}

static void end_child(pid_t child)
{
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Tells the daemon about the new PID 1 and its mounts, and waits for `go`. */
static bool agree(struct opening *opening, pid_t child, int socket)
{
    char line[LINE_MAX_BYTES] = "sandbox";
    char mounted = 0;
    if (!line_add_number(line, sizeof line, "pid", child) || !line_send(opening->daemon, line))
        return false;
    if (read(socket, &mounted, 1) != 1 || !line_send(opening->daemon, "mounted"))
        return false;
    if (!next_line(opening, line))
        return false;
    if (!line_is(line, "go"))
        tell_message(line);
    return line_is(line, "go");
}

enum outcome { PLAIN, IN_SANDBOX, RETRY };

/* Clones PID 1 of the sandbox and, when all agree, becomes the guard. Only script and a failed attempt come back. */
static enum outcome make_sandbox(spank_t spank, struct opening *opening)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return PLAIN;
    /*
     * clone, not unshare: this process stays in the node's namespaces, so that until `go` it can still run the job
     * plain. PID: a restore never meets a taken PID. Mount: private /tmp and /dev/shm. IPC: CRIU dumps SysV objects only
     * when the namespace differs from its own. UTS: the host name is kept for life. Net: an address kept for life.
     */
    unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (opening->private_net ? CLONE_NEWNET : 0);
    pid_t child = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0) {
        close(sockets[0]);
        close(opening->daemon);
        run_pid1(spank, opening, sockets[1]);
        return IN_SANDBOX;
    }
    close(sockets[1]);
    if (child > 0 && agree(opening, child, sockets[0]) && write(sockets[0], "g", 1) == 1)
        payload_exec_guard(opening, child, sockets[0]);
    if (child > 0)
        end_child(child);
    close(sockets[0]);
    return opening->restore ? RETRY : PLAIN;
}

/* The job has a checkpoint but must not run now: wait for the daemon's release or Slurm's kill. */
static void park(struct opening *opening, const char *line)
{
    char answer[LINE_MAX_BYTES];
    tell_message(line);
    opening_limit(opening->daemon, 0);
    while (next_line(opening, answer))
        if (line_is(answer, "release"))
            _exit((int)line_number(answer, "status", 0));
    for (;;)
        pause();
}

static enum outcome try_once(spank_t spank, struct opening *opening)
{
    char line[LINE_MAX_BYTES];
    enum outcome outcome = opening_has_images(opening) ? RETRY : PLAIN;
    opening->daemon = line_connect(opening->socket_path);
    if (opening->daemon < 0)
        return outcome;
    opening->reader.length = 0;
    opening_limit(opening->daemon, opening->wait_seconds);
    if (opening_ask(opening) && next_line(opening, line)) {
        if (opening_take_answer(opening, line)) {
            /* From here on the daemon works for us: network, mounts. */
            opening_limit(opening->daemon, 30);
            outcome = make_sandbox(spank, opening);
            if (outcome == IN_SANDBOX)
                return outcome;
        } else if (line_is(line, "park")) {
            park(opening, line);
        } else {
            tell_message(line);
            close(opening->daemon);
            opening->told = true;
            return PLAIN;
        }
    }
    close(opening->daemon);
    return outcome;
}

/* A requeued job with an image in the store: starting afresh would redo, and overwrite, what it has done. */
static void hold_job(const struct opening *opening)
{
    char job[24];
    snprintf(job, sizeof job, "%u", opening->job);
    tell_user("the daemon does not answer on this node and the job has a checkpoint; it is held, release it with scontrol release");
    pid_t child = fork();
    if (child == 0) {
        execl(opening->scontrol, "scontrol", "requeuehold", job, (char *)NULL);
        _exit(127);
    }
    for (;;)
        pause();
}

void sandbox_enter(spank_t spank, const char *options, int argc, char **argv)
{
    struct opening *opening = calloc(1, sizeof *opening);
    enum outcome outcome = PLAIN;
    if (opening == NULL || !opening_fill(spank, opening, options, argc, argv)) {
        tell_user("this job's data cannot be read; it runs without checkpoints");
        return;
    }
    if (!cgroup_wait(2000)) {
        tell_user("Slurm did not put this task into its cgroup; the job runs without checkpoints");
        return;
    }
    time_t last = time(NULL) + (opening_has_images(opening) ? 30 : 0);
    do {
        outcome = try_once(spank, opening);
        if (outcome == RETRY)
            usleep(500000);
    } while (outcome == RETRY && time(NULL) < last);
    if (outcome == IN_SANDBOX)
        return;
    if (outcome == RETRY)
        hold_job(opening);
    if (!opening->told)
        tell_user("the daemon does not answer on this node; the job runs without checkpoints");
    free(opening);
}
