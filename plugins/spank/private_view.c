#define _GNU_SOURCE
#include "private_view.h"

#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

static bool loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    bool up = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

bool private_view_make(const struct opening *opening)
{
    /* Private, not slave: nothing of ours reaches the node, and CRIU stops at mounts that are shared with others. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    /* The proc of the new PID namespace, for the job and for CRIU. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return false;
    /* MPI runtimes keep live files in these two; private, they can travel with the image. */
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0 || mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0)
        return false;
    /* The member's own name on its virtual address. */
    if (opening->hosts[0] != '\0' && mount(opening->hosts, "/etc/hosts", NULL, MS_BIND, NULL) != 0)
        return false;
    if (sethostname(opening->hostname, strlen(opening->hostname)) != 0)
        return false;
    return !opening->private_net || loopback_up();
}
