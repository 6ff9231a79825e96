#define _GNU_SOURCE
#include "role_exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "close_from.h"
#include "internal.h"

#define FDS_LOOKED_AT 64
#define RELEASE_MS 1000

/*
 * Leaves nothing of slurmstepd in a helper: descriptors 0 to `last_standard` on /dev/null, `kept` in the slots that
 * follow from 3 on (-1 leaves one empty), all others closed. All signals stay blocked, so that none is lost or kills
 * before the helper has set up how it takes them.
 */
static bool strip(int last_standard, const int *kept, int count)
{
    int moved[2] = {-1, -1};
    sigset_t all;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigfillset(&all);
    if (null < 0 || sigprocmask(SIG_SETMASK, &all, NULL) != 0)
        return false;
    for (int i = 0; i < count; i++)
        if (kept[i] >= 0 && (moved[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 3 + count)) < 0)
            return false;
    for (int fd = 0; fd <= last_standard; fd++)
        if (dup2(null, fd) < 0)
            return false;
    for (int i = 0; i < count; i++)
        if (moved[i] >= 0 ? dup2(moved[i], 3 + i) < 0 : (close(3 + i), false))
            return false;
    if (!close_from(3 + count))
        return false;
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    return chdir("/") == 0;
}

/*
 * slurmstepd lets a task go on by a byte into a pipe, right after the callback that ends placement_wait, and takes the task
 * for ended when nobody holds the other end. Where no script will: wait until some pipe of this process has its byte.
 */
static void await_byte_of_slurmstepd(void)
{
    struct pollfd pipes[FDS_LOOKED_AT];
    nfds_t count = 0;
    for (int fd = 3; fd < FDS_LOOKED_AT; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
            pipes[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    if (count > 0)
        (void)poll(pipes, count, RELEASE_MS);
}

static bool add_common_words(char *line, const struct opening *opening)
{
    return line_add_number(line, LINE_MAX_BYTES, "job", opening->job) && line_add_number(line, LINE_MAX_BYTES, "uid", opening->uid) &&
           line_add_number(line, LINE_MAX_BYTES, "nodes", opening->nodes) &&
           line_add(line, LINE_MAX_BYTES, "socket", opening->socket_path) && line_add(line, LINE_MAX_BYTES, "scontrol", opening->scontrol) &&
           line_add(line, LINE_MAX_BYTES, "name", opening->name) &&
           (opening->member == 0 || opening_add_place(opening, line));
}

/* An environment with nothing but what scontrol needs where slurm.conf is not in its usual place. */
static char **slurm_environment(void)
{
    static char text[600] = "SLURM_CONF=";
    static char *environment[] = {NULL, NULL};
    const char *path = getenv("SLURM_CONF");
    if (path != NULL && strlen(path) < sizeof text - strlen(text) && environment[0] == NULL) {
        strcat(text, path);
        environment[0] = text;
    }
    return environment;
}

void role_exec_guard(const struct opening *opening, pid_t pid1, int pid1_socket)
{
    /* The words of `attach` for later connections, and what the guard must know when it is alone. */
    static char line[LINE_MAX_BYTES];
    const int kept[] = {opening->daemon, pid1_socket};
    strcpy(line, opening->restore ? "guard mode=restore" : "guard mode=start");
    bool complete = add_common_words(line, opening) && line_add_number(line, sizeof line, "sandbox", pid1) &&
                    line_add_number(line, sizeof line, "doorbell", opening->doorbell) && line_add_number(line, sizeof line, "attached", opening->attached);
    for (int i = 0; complete && i < opening->cgroups; i++)
        complete = line_add(line, sizeof line, "cgroup", opening->cgroup[i]);
    if (opening->restore)
        await_byte_of_slurmstepd();
    if (complete && strip(1, kept, 2))
        execle(opening->helper, "stint-init", "guard", line, (char *)NULL, slurm_environment());
}

void role_exec_pid1(const struct opening *opening, int guard_socket, int listener)
{
    const int kept[] = {guard_socket, listener};
    if (strip(2, kept, 2))
        execle(opening->helper, "stint-init", "pid1", opening->restore ? "restore" : "start", (char *)NULL, (char *[]){NULL});
}

void role_exec_root(const struct opening *opening)
{
    if (strip(2, NULL, 0))
        execle(opening->helper, "stint-init", "root", (char *)NULL, (char *[]){NULL});
}

_Noreturn void role_exec_nothing(void)
{
    await_byte_of_slurmstepd();
    _exit(1);
}

_Noreturn void role_exec_parked(const struct opening *opening, bool hold)
{
    static char line[LINE_MAX_BYTES];
    strcpy(line, hold ? "parked hold=1" : "parked hold=0");
    await_byte_of_slurmstepd();
    if (add_common_words(line, opening) && strip(1, &opening->daemon, 1))
        execle(opening->helper, "stint-init", "parked", line, (char *)NULL, slurm_environment());
    _exit(1);
}
