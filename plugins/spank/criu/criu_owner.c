/*
 * LD_PRELOAD for `criu restore`: sockets belong to the job's user again. CRIU makes them as root, and the kernel takes a socket's
 * owner (SO_REUSEPORT, /proc/net) and what SO_PEERCRED says from whoever makes it, connects it or listens on it. Each of these calls
 * is made with the user's effective ids here. Nothing else is: CRIU writes the sysctls of the IPC namespace as uid 0. Its
 * capabilities stay through the change (SECBIT_NO_SETUID_FIXUP, set in command-lines.ts).
 * This can go when CRIU restores owners: https://github.com/checkpoint-restore/criu/issues/3122.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP ((unsigned)-1)

static bool wanted;
static unsigned uid, gid;

__attribute__((constructor)) static void read_owner(void)
{
    const char *owner = getenv("STINT_SOCKET_OWNER");
    wanted = owner != NULL && sscanf(owner, "%u:%u", &uid, &gid) == 2;
}

/* The system calls, not libc's functions: these would ask all threads to follow, and a forked CRIU has but one. */
static bool become(unsigned new_uid, unsigned new_gid)
{
    return syscall(SYS_setresgid, KEEP, new_gid, KEEP) == 0 && syscall(SYS_setresuid, KEEP, new_uid, KEEP) == 0;
}

/* Root must come back: the rest of a restore with the user's ids would be another one than was asked for. */
static void back_to_root(void)
{
    int error = errno;
    if (wanted && !become(0, 0))
        abort();
    errno = error;
}

static bool become_owner(void)
{
    if (!wanted || become(uid, gid))
        return true;
    back_to_root();
    return false;
}

int socket(int domain, int type, int protocol)
{
    if (!become_owner())
        return -1;
    int fd = (int)syscall(SYS_socket, domain, type, protocol);
    back_to_root();
    return fd;
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    if (!become_owner())
        return -1;
    int result = (int)syscall(SYS_socketpair, domain, type, protocol, pair);
    back_to_root();
    return result;
}

int listen(int fd, int backlog)
{
    if (!become_owner())
        return -1;
    int result = (int)syscall(SYS_listen, fd, backlog);
    back_to_root();
    return result;
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    if (!become_owner())
        return -1;
    int result = (int)syscall(SYS_connect, fd, address, length);
    back_to_root();
    return result;
}
