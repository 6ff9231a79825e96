/*
 * LD_PRELOAD for `criu restore`, part of criu-shim.so: sockets belong to the job's user again. CRIU makes them as root, and the kernel
 * takes a socket's owner (SO_REUSEPORT, /proc/net) and what SO_PEERCRED says from whoever makes it, connects it or listens on it. Each
 * of these calls is made with the user's effective ids here.
 * This can go when CRIU restores owners: https://github.com/checkpoint-restore/criu/issues/3122.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
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

static bool is_datagram(int fd, const struct sockaddr *address)
{
    int type;
    socklen_t size = sizeof type;
    return address->sa_family == AF_UNIX && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    identity_enter(OWNER);
    int result = (int)syscall(SYS_connect, fd, address, length);
    identity_leave(OWNER);
    /* A socket whose name is gone is reached by CRIU's own descriptor of it in /proc, which is root's. Datagrams carry no word of who connected. */
    if (result != 0 && errno == EACCES && is_datagram(fd, address))
        result = (int)syscall(SYS_connect, fd, address, length);
    return result;
}
