/* What CRIU drops of a descriptor and nothing can put back: it is told. Nothing is taken out of a queue to see whether there is something. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ledger.h"

#define LOST_FLAGS (0x80000000U | 0x04000000U) /* IN_ONESHOT, IN_EXCL_UNLINK */

/* recvmsg with MSG_PEEK would take the socket's pending error. */
void ledger_record_unread_datagrams(int pid, int fd, int socket)
{
    int domain = 0, type = 0;
    socklen_t length = sizeof domain;
    if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return;
    if ((domain != AF_INET && domain != AF_INET6) || type == SOCK_STREAM)
        return;
    struct pollfd source = {.fd = socket, .events = POLLIN | POLLRDHUP};
    if (poll(&source, 1, 0) == 1 && (source.revents & POLLIN) && !(source.revents & POLLRDHUP))
        printf("unread %d %d datagrams\n", pid, fd);
}

void ledger_record_inotify(int pid, int fd, int inotify)
{
    char path[64], line[512];
    int waiting = 0;
    unsigned mask;
    bool flags = false;
    if (ioctl(inotify, FIONREAD, &waiting) == 0 && waiting > 0)
        printf("unread %d %d inotify\n", pid, fd);
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        flags = flags || (sscanf(line, "inotify wd:%*x ino:%*x sdev:%*x mask:%x", &mask) == 1 && (mask & LOST_FLAGS) != 0);
    fclose(file);
    if (flags)
        printf("watch-flags %d %d\n", pid, fd);
}
