#define _GNU_SOURCE
#include "payload.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cgroup_join.h"
#include "internal.h"
#include "listener_pass.h"
#include "role_exec.h"
#include "seccomp_filter.h"

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

/*
 * The daemon's settings, unless the user has made them, and what tells the job (and its srun) that it is in a sandbox. Names
 * of ours always: sbatch passes on those of the job it was called in.
 */
static bool set_environment(spank_t spank, const struct opening *opening)
{
    char word[1024], job[24];
    for (int i = 0; line_value(opening->answer, "env", i, word, sizeof word); i++) {
        char *value = strchr(word, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        spank_err_t set = spank_setenv(spank, word, value, strncmp(word, "STINT_", 6) == 0);
        if (set != ESPANK_SUCCESS && set != ESPANK_ENV_EXISTS)
            return false;
    }
    snprintf(job, sizeof job, "%u", opening->job);
    return spank_setenv(spank, "STINT_JOB_ID", job, 1) == ESPANK_SUCCESS &&
           spank_setenv(spank, "STINT_NET", opening->private_net ? "private" : "host", 1) == ESPANK_SUCCESS;
}

/* In script. pid1 keeps the listener; without it the calls that ask there fail, so a listener that is lost is no danger. */
static bool filter_calls(int socket)
{
    int listener;
    if (!seccomp_filter_install(&listener))
        return false;
    listener_pass(socket, listener);
    return true;
}

/*
 * root, PID 1000: a session of its own, so that every member of the job hangs below it, and the adopter of its daemons
 * before there can be one. script, its child, is what slurmstepd turns into the user's script when this returns true.
 */
static bool enter_root(spank_t spank, const struct opening *opening, int listener_socket)
{
    for (int i = 0; i < opening->cgroups; i++)
        if (!cgroup_join(opening->cgroup[i]))
            return false;
    if (setsid() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return false;
    pid_t script = fork();
    if (script == 0)
        return setsid() >= 0 && filter_calls(listener_socket) && set_environment(spank, opening);
    if (script > 0 && become_user(spank, opening))
        role_exec_root(opening);
    _exit(1);
}

#define LISTENER_MS 5000

/* The next fork of this namespace gets ROOT_PID: the PIDs below are CRIU's when it restores. */
static bool set_last_pid(void)
{
    char text[8];
    int length = snprintf(text, sizeof text, "%d", ROOT_PID - 1);
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool set = write(fd, text, (size_t)length) == length;
    close(fd);
    return set;
}

bool payload_start(spank_t spank, const struct opening *opening, int guard_socket)
{
    int sockets[2];
    if (!set_last_pid() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return false;
    pid_t root = fork();
    if (root == 0) {
        close(sockets[0]);
        return enter_root(spank, opening, sockets[1]);
    }
    close(sockets[1]);
    if (root > 0)
        role_exec_pid1(opening, guard_socket, listener_take(sockets[0], LISTENER_MS));
    return false;
}
