#define _GNU_SOURCE
#include "seccomp_notice.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "strict_mode.h"

#define LANDLOCK_RESTRICT_SELF 446 /* on all architectures */

/* False when the caller is gone or was interrupted: it has no answer, and makes its call again if it lives. */
static bool answer(int listener, unsigned long long id, int error, unsigned flags)
{
    struct seccomp_notif_resp response = {.id = id, .error = error, .flags = flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

void seccomp_notice_continue(int listener, unsigned long long id)
{
    (void)answer(listener, id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static enum seccomp_notice take_strict(int listener, const struct seccomp_notif *call)
{
    struct strict_mode mode;
    bool stopped = strict_mode_stop(&mode, (pid_t)call->pid, &call->data);
    /* A caller that is being stopped has left its wait, or leaves it with this answer; it stops before it sees it. */
    bool answered = answer(listener, call->id, -EINVAL, 0);
    if (!stopped)
        return answered ? NOTICE_STRICT_REFUSED : NOTICE_NONE;
    return strict_mode_enter(&mode) ? NOTICE_STRICT_ENTERED : NOTICE_STRICT_REFUSED;
}

enum seccomp_notice seccomp_notice_take(int listener, unsigned long long *id)
{
    struct seccomp_notif call;
    memset(&call, 0, sizeof call); /* The kernel demands it. */
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
        return NOTICE_NONE;
    *id = call.id;
    return call.data.nr == LANDLOCK_RESTRICT_SELF ? NOTICE_LANDLOCK : take_strict(listener, &call);
}
