/*
 * LD_PRELOAD for `criu restore`: nothing that was restored runs before the daemon has looked at it (STINT_RELEASE is set).
 *
 * CRIU gives the tasks their credentials, catches each thread on its way back to the program, runs its `pre-resume` script and lets
 * go. It ignores that script's exit status, and that the script could not be started, which other processes of the job can bring
 * about (pids.max). So the last word is asked for here, in CRIU itself, before it lets go of the first thread:
 *
 * - PTRACE_O_EXITKILL is added to the options of every thread. The kernel kills them all when CRIU ends, for whatever reason, before
 *   it has let them go: SIGKILL takes a stopped thread out of the kernel without an instruction of its program.
 * - Before the first PTRACE_DETACH after that, the daemon's word; without it CRIU ends. CRIU needs no right to kill what belongs to
 *   the user by then.
 */
#define _GNU_SOURCE
#include "criu_release.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "barrier_word.h"
#include "criu_identity.h"

static bool caught, released;

/* Root's socket, as root. System calls, as criu_owner.c changes libc's functions. */
static int reach(const char *path, int ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    identity_enter(ROOT);
    bool connected = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0
        && syscall(SYS_connect, fd, &address, sizeof address) == 0;
    identity_leave(ROOT);
    if (connected)
        return fd;
    close(fd);
    return -1;
}

void *release_before(enum __ptrace_request request, void *data)
{
    const char *wanted = getenv("STINT_RELEASE");
    if (wanted == NULL || *wanted == '\0')
        return data;
    if (request == PTRACE_SETOPTIONS) {
        caught = true;
        return (void *)((uintptr_t)data | PTRACE_O_EXITKILL);
    }
    /* Before its tasks are caught CRIU lets go of some that it made a moment ago (shadow stacks). */
    if (request == PTRACE_DETACH && caught && !released) {
        int error = errno;
        released = barrier_word("pre-resume", reach);
        while (!released)
            syscall(SYS_kill, getpid(), SIGKILL);
        errno = error;
    }
    return data;
}
