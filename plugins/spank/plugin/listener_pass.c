#define _GNU_SOURCE
#include "listener_pass.h"

#include <errno.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

struct parcel {
    char byte;
    struct iovec text;
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message;
};

static void wrap(struct parcel *parcel)
{
    memset(parcel, 0, sizeof *parcel);
    parcel->text = (struct iovec){.iov_base = &parcel->byte, .iov_len = 1};
    parcel->message = (struct msghdr){.msg_iov = &parcel->text, .msg_iovlen = 1, .msg_control = parcel->control, .msg_controllen = sizeof parcel->control};
}

void listener_pass(int socket, int listener)
{
    struct parcel parcel;
    wrap(&parcel);
    struct cmsghdr *header = CMSG_FIRSTHDR(&parcel.message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    if (listener >= 0) {
        (void)sendmsg(socket, &parcel.message, MSG_NOSIGNAL); /* Unsent, it ends here, and the calls that ask there fail. */
        close(listener);
    }
    close(socket);
}

int listener_take(int socket, int ms)
{
    struct parcel parcel;
    struct pollfd source = {.fd = socket, .events = POLLIN};
    long long deadline = now_ms() + ms;
    int ready, listener = -1;
    wrap(&parcel);
    do
        ready = poll(&source, 1, (int)(deadline - now_ms()));
    while (ready < 0 && errno == EINTR && now_ms() < deadline);
    if (ready > 0 && recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) == 1) {
        const struct cmsghdr *header = CMSG_FIRSTHDR(&parcel.message);
        if (header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof listener))
            memcpy(&listener, CMSG_DATA(header), sizeof listener);
    }
    close(socket);
    return listener;
}
