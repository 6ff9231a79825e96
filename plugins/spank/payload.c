#define _GNU_SOURCE
#include "payload.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "io_uring.h"

static char *const empty_environment[] = {NULL};

/*
 * Leaves nothing of slurmstepd in a helper: descriptors 0 to `last_standard` on /dev/null, `kept` in the slots that
 * follow from 3 on, all others closed, all signals as they are at a program's start.
 */
static bool strip(int last_standard, const int *kept, int count)
{
    int moved[2];
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < count; i++)
        if ((moved[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 100)) < 0)
            return false;
    for (int fd = 0; fd <= last_standard; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            return false;
    for (int i = 0; i < count; i++)
        if (dup2(moved[i], 3 + i) < 0)
            return false;
    closefrom(3 + count);
    sigemptyset(&none);
    return chdir("/") == 0 && sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool join_cgroups(const struct opening *opening)
{
    for (int i = 0; i < opening->cgroups; i++) {
        char path[1100];
        snprintf(path, sizeof path, "%s/cgroup.procs", opening->cgroup[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            return false;
        close(fd);
    }
    return true;
}

/* The identity of the job, for root: the kernel drops all capabilities with it. */
static bool become_user(spank_t spank, const struct opening *opening)
{
    gid_t *groups = NULL;
    int count = 0;
    if (spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &count) != ESPANK_SUCCESS)
        count = 0;
    return setgroups((size_t)count, groups) == 0 && setresgid(opening->gid, opening->gid, opening->gid) == 0 &&
           setresuid(opening->uid, opening->uid, opening->uid) == 0;
}

/* script: what slurmstepd will turn into the user's script when this process returns from the callback. */
static bool enter_script(spank_t spank, const struct opening *opening)
{
    char word[1024], job[24];
    if (setsid() < 0 || !io_uring_hide())
        return false;
    for (int i = 0; line_value(opening->answer, "env", i, word, sizeof word); i++) {
        char *value = strchr(word, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        (void)spank_setenv(spank, word, value, 0); /* The user's own setting wins. */
    }
    snprintf(job, sizeof job, "%u", opening->job);
    return spank_setenv(spank, "STINT_JOB_ID", job, 1) == ESPANK_SUCCESS && spank_setenv(spank, "STINT_NET", opening->private_net ? "private" : "host", 1) == ESPANK_SUCCESS;
}

/* root, PID 1000: a session of its own, so that every member of the job hangs below it. */
static bool enter_root(spank_t spank, const struct opening *opening)
{
    if (setsid() < 0 || !join_cgroups(opening))
        return false;
    pid_t script = fork();
    if (script < 0)
        return false;
    if (script == 0) {
        if (enter_script(spank, opening))
            return true;
        _exit(1);
    }
    if (strip(2, NULL, 0) && become_user(spank, opening))
        execle(opening->helper, "stint-init", "root", (char *)NULL, empty_environment);
    _exit(1);
}

/* The next fork of this namespace gets ROOT_PID: the PIDs below are CRIU's when it restores. */
static bool set_last_pid(void)
{
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    char text[8];
    int length = snprintf(text, sizeof text, "%d", ROOT_PID - 1);
    bool set = fd >= 0 && write(fd, text, (size_t)length) == length;
    if (fd >= 0)
        close(fd);
    return set;
}

bool payload_start(spank_t spank, const struct opening *opening, int guard_socket)
{
    if (!set_last_pid())
        return false;
    pid_t root = fork();
    if (root == 0) {
        if (enter_root(spank, opening))
            return true;
        _exit(1);
    }
    if (root > 0)
        payload_exec_pid1(opening, guard_socket);
    return false;
}

void payload_exec_pid1(const struct opening *opening, int guard_socket)
{
    const int kept[] = {guard_socket};
    if (strip(2, kept, 1))
        execle(opening->helper, "stint-init", "pid1", opening->restore ? "restore" : "start", (char *)NULL, empty_environment);
}

void payload_exec_guard(const struct opening *opening, pid_t pid1, int pid1_socket)
{
    /* The words of `attach` for later connections, and what the guard must know when it is alone. */
    static char line[LINE_MAX_BYTES];
    const int kept[] = {opening->daemon, pid1_socket};
    snprintf(line, sizeof line, "guard mode=%s", opening->restore ? "restore" : "start");
    bool complete = line_add_number(line, sizeof line, "job", opening->job) && line_add_number(line, sizeof line, "uid", opening->uid) &&
                    line_add_number(line, sizeof line, "sandbox", pid1) &&
                    line_add_number(line, sizeof line, "doorbell", opening->doorbell) && line_add(line, sizeof line, "socket", opening->socket_path) &&
                    line_add(line, sizeof line, "scontrol", opening->scontrol);
    for (int i = 0; complete && i < opening->cgroups; i++)
        complete = line_add(line, sizeof line, "cgroup", opening->cgroup[i]);
    opening_limit(opening->daemon, 0);
    if (complete && strip(1, kept, 2))
        execle(opening->helper, "stint-init", "guard", line, (char *)NULL, empty_environment);
}
