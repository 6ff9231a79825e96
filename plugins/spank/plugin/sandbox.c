#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "opening.h"
#include "payload.h"
#include "placement.h"
#include "private_view.h"
#include "role_exec.h"

#define PLACEMENT_MS 2000
/* Network and mounts take some 20 ms; a daemon that needs this long for them is as good as none. */
#define GO_MS 10000
#define IMAGE_MS 30000
#define IMAGE_RETRY_MS 500

/* PLAIN: the job runs without us. SILENT: no daemon to come to terms with. */
enum outcome { IN_SANDBOX, PLAIN, SILENT };

static bool entered;

/* pid1 to the task: empty when its view is made, else what failed. */
struct report {
    char fault[200];
};

/* The guard's word; false when there is no guard any more. */
static bool await_go(int socket)
{
    char go = 0;
    ssize_t got;
    do
        got = read(socket, &go, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

/* The child of the clone: makes its view, reports, waits for the word, goes on. Comes back as script only. */
static void run_pid1(spank_t spank, struct opening *opening, int socket)
{
    char text[200];
    struct report report = {""};
    /* The sandbox ends with its guard, whatever ends that. */
    const char *failed = prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ? "prctl" : private_view_make(opening);
    if (failed != NULL)
        snprintf(report.fault, sizeof report.fault, "%s: %s", failed, strerror(errno));
    if (write(socket, &report, sizeof report) != sizeof report || failed != NULL || !await_go(socket))
        _exit(1);
    if (opening->restore)
        role_exec_pid1(opening, socket, -1);
    else if (payload_start(spank, opening, socket))
        return;
    snprintf(text, sizeof text, "the job could not be started in its sandbox: %s", strerror(errno));
    tell_user(text);
    _exit(1);
}

static void end_child(pid_t child)
{
    (void)kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static bool await_report(int socket, long long deadline)
{
    struct report report = {"it ended"};
    struct pollfd source = {.fd = socket, .events = POLLIN};
    char text[300];
    int ready;
    do
        ready = poll(&source, 1, (int)(deadline - now_ms()));
    while (ready < 0 && errno == EINTR && now_ms() < deadline);
    if (ready > 0 && read(socket, &report, sizeof report) == sizeof report && report.fault[0] == '\0')
        return true;
    report.fault[sizeof report.fault - 1] = '\0';
    snprintf(text, sizeof text, "the sandbox could not be made: %s", report.fault);
    tell_user(text);
    return false;
}

/* Tells the daemon about the new PID 1 and its mounts, and waits for `go` or another verdict. */
static bool agree(struct opening *opening, pid_t child, int socket, char line[LINE_MAX_BYTES])
{
    long long deadline = now_ms() + GO_MS;
    strcpy(line, "sandbox");
    return line_add_number(line, LINE_MAX_BYTES, "pid", child) && line_send(opening->daemon, line) && await_report(socket, deadline) &&
           line_send(opening->daemon, "mounted") && opening_verdict(opening, line, deadline);
}

/* `refuse` and `park` end an opening, whenever they come. */
static enum outcome take_refusal(struct opening *opening, const char *line)
{
    tell_message(line);
    if (line_is(line, "park") && opening->member == 0)
        role_exec_parked(opening, false);
    return line_is(line, "refuse") || line_is(line, "park") ? PLAIN : SILENT;
}

static pid_t clone_pid1(const struct opening *opening)
{
    /*
     * clone, not unshare: this process stays in the node's namespaces, so that until `go` it can still run the job
     * plain. PID: a restore never meets a taken PID. Mount: private /tmp and /dev/shm. IPC: CRIU dumps SysV objects only
     * when the namespace differs from its own. UTS: the host name is kept for life. Net: an address kept for life.
     */
    unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (opening->private_net ? CLONE_NEWNET : 0);
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* Clones PID 1 of the sandbox and, when all agree, becomes the guard. Only script and a failed attempt come back. */
static enum outcome make_sandbox(spank_t spank, struct opening *opening)
{
    char line[LINE_MAX_BYTES] = "";
    int sockets[2];
    enum outcome outcome = SILENT;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return SILENT;
    pid_t child = clone_pid1(opening);
    if (child == 0) {
        close(sockets[0]);
        opening_close(opening);
        run_pid1(spank, opening, sockets[1]);
        return IN_SANDBOX;
    }
    close(sockets[1]);
    if (child < 0)
        tell_user("the sandbox could not be made: the kernel refuses its namespaces");
    bool agreed = child > 0 && agree(opening, child, sockets[0], line);
    if (agreed && line_is(line, "go")) {
        if (write(sockets[0], "g", 1) == 1)
            role_exec_guard(opening, child, sockets[0]);
        tell_user("the sandbox could not be started");
    }
    if (child > 0)
        end_child(child);
    close(sockets[0]);
    if (agreed && !line_is(line, "go"))
        outcome = take_refusal(opening, line);
    return outcome;
}

static bool note_cgroups(const struct opening *opening)
{
    for (int i = 0; i < opening->cgroups; i++)
        if (!placement_note_cgroup(opening->cgroup[i]))
            return false;
    return true;
}

static enum outcome try_once(spank_t spank, struct opening *opening)
{
    char line[LINE_MAX_BYTES] = "";
    long long deadline = now_ms() + opening->wait_seconds * 1000LL;
    enum outcome outcome = SILENT;
    if (!opening_ask(opening) || !opening_verdict(opening, line, deadline))
        outcome = SILENT;
    else if (!line_is(line, "start") && !line_is(line, "restore"))
        outcome = take_refusal(opening, line);
    else if (opening_take_answer(opening, line) && note_cgroups(opening))
        outcome = make_sandbox(spank, opening);
    if (outcome != IN_SANDBOX)
        opening_close(opening);
    return outcome;
}

static enum outcome try_long_enough(spank_t spank, struct opening *opening)
{
    if (opening->member > 0)
        return try_once(spank, opening);
    /* A site whose daemon needs longer has said so. */
    long long end = now_ms() + (opening->wait_seconds * 1000LL > IMAGE_MS ? opening->wait_seconds * 1000LL : IMAGE_MS);
    for (;;) {
        enum outcome outcome = try_once(spank, opening);
        /* A job that has a checkpoint must not start afresh: that would redo, and overwrite, what it has done. */
        if (outcome != SILENT || !(opening->restore || opening_has_images(opening)))
            return outcome;
        if (now_ms() > end) {
            tell_user("the daemon does not answer on this node and the job has a checkpoint; the job is held: continue it with scontrol release");
            role_exec_parked(opening, true);
        }
        usleep(IMAGE_RETRY_MS * 1000);
    }
}

bool sandbox_entered(void)
{
    return entered;
}

void sandbox_enter(spank_t spank, int member, const char *options, int argc, char **argv)
{
    static struct opening opening;
    enum outcome outcome = PLAIN;
    const char *fault = NULL;
    char text[200];
    /* The job's own srun and sbatch commands must not take the option for one of theirs. */
    (void)spank_unsetenv(spank, "SLURM_SPANK__SLURM_SPANK_OPTION_stint_stint");
    if (!opening_fill(spank, &opening, member, options, argc, argv))
        fault = "Slurm does not tell this job's id";
    else if (access(opening.helper, X_OK) != 0)
        fault = "stint-init is missing on this node";
    else if (!placement_wait(PLACEMENT_MS))
        fault = "Slurm did not put this task into its cgroup";
    else if ((outcome = try_long_enough(spank, &opening)) == SILENT)
        fault = "the daemon does not answer on this node";
    if (fault != NULL) {
        snprintf(text, sizeof text, "%s; %s", fault, member == 0 ? "the job runs without checkpoints" : "this step ends");
        tell_user(text);
    }
    entered = outcome == IN_SANDBOX;
    /* What a member step was given to run is of use in its sandbox only. */
    if (member > 0 && !entered)
        role_exec_nothing();
}
