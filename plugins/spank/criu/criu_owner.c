/*
 * LD_PRELOAD for `criu restore`, part of criu-shim.so: sockets belong to the job's user again. CRIU makes them as root, and the kernel
 * takes a socket's owner (SO_REUSEPORT, /proc/net) and what SO_PEERCRED says from whoever makes it, connects it or listens on it. Each
 * of these calls is made with the user's effective ids here.
 * This can go when CRIU restores owners: https://github.com/checkpoint-restore/criu/issues/3122.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu_identity.h"

int socket(int domain, int type, int protocol)
{
    identity_enter(OWNER);
    int fd = (int)syscall(SYS_socket, domain, type, protocol);
    identity_leave(OWNER);
    return fd;
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    identity_enter(OWNER);
    int result = (int)syscall(SYS_socketpair, domain, type, protocol, pair);
    identity_leave(OWNER);
    return result;
}

int listen(int fd, int backlog)
{
    identity_enter(OWNER);
    int result = (int)syscall(SYS_listen, fd, backlog);
    identity_leave(OWNER);
    return result;
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    identity_enter(OWNER);
    int result = (int)syscall(SYS_connect, fd, address, length);
    identity_leave(OWNER);
    return result;
}
