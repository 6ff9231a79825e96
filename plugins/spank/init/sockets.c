/*
 * stint-init sockets PID...: what /proc does not tell of the TCP sockets of these processes, and CRIU 4.2 does not save. One line each:
 *
 *   PID FD urgent   an urgent byte waits to be read
 *   PID FD error    an error waits to be told, such as ECONNRESET
 *
 * Looks through copies of the descriptors (pidfd_getfd) and takes nothing from a socket.
 *
 * stint-init sockets end-repair PID...: takes TCP sockets out of repair mode, in which a CRIU that was killed has left them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "roles.h"

static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

static void look(int pid, int number, int fd)
{
    char byte;
    struct pollfd source = {.fd = fd};
    if (!is_tcp(fd))
        return;
    if (recv(fd, &byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1)
        printf("%d %d urgent\n", pid, number);
    if (poll(&source, 1, 0) == 1 && (source.revents & POLLERR) != 0)
        printf("%d %d error\n", pid, number);
}

static void end_repair(int pid, int number, int fd)
{
    int mode = 0;
    socklen_t size = sizeof mode;
    if (!is_tcp(fd) || getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &mode, &size) != 0 || mode == 0)
        return;
    mode = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &mode, sizeof mode) != 0)
        printf("%d %d stays in repair mode\n", pid, number);
}

static void visit_all(int pid, void (*visit)(int pid, int number, int fd))
{
    char path[64], link[32];
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (pidfd < 0 || directory == NULL) /* It has just ended. */
        goto done;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, link, sizeof link);
        if (length < 7 || memcmp(link, "socket:", 7) != 0)
            continue;
        int number = atoi(entry->d_name);
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        if (fd < 0)
            continue; /* Closed since. */
        visit(pid, number, fd);
        close(fd);
    }
done:
    if (directory != NULL)
        closedir(directory);
    if (pidfd >= 0)
        close(pidfd);
}

int sockets_main(int argc, char **argv)
{
    bool ends_repair = argc > 0 && strcmp(argv[0], "end-repair") == 0;
    for (int i = ends_repair ? 1 : 0; i < argc; i++)
        visit_all(atoi(argv[i]), ends_repair ? end_repair : look);
    return fflush(stdout) == 0 ? 0 : 1;
}
