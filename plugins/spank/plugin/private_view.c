#define _GNU_SOURCE
#include "private_view.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool up = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

/* A directory that is the job's alone: Slurm's, where it has made one for this job, else a tmpfs. */
static bool own_directory(const struct opening *opening, const char *path)
{
    char kept[64];
    for (int i = 0; line_value(opening->answer, "keep", i, kept, sizeof kept); i++)
        if (strcmp(kept, path) == 0)
            return true;
    return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") == 0;
}

/*
 * Programs that look for network devices in /sys (UCX does) must find those of the sandbox. A sysfs shows the devices of the
 * network namespace it was mounted in; only these two directories of a new one are taken, so that all else below /sys, the
 * cgroups too, stays as it is.
 */
static bool own_network_in_sys(void)
{
    static const char *const shown[][2] = {
        {"/dev/shm/.sys/class/net", "/sys/class/net"},
        {"/dev/shm/.sys/devices/virtual/net", "/sys/devices/virtual/net"},
    };
    bool good = mkdir("/dev/shm/.sys", 0700) == 0;
    bool mounted = good && mount("sysfs", "/dev/shm/.sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL) == 0;
    good = mounted;
    for (size_t i = 0; good && i < sizeof shown / sizeof *shown; i++)
        good = mount(shown[i][0], shown[i][1], NULL, MS_BIND, NULL) == 0;
    if (mounted)
        good = umount2("/dev/shm/.sys", MNT_DETACH) == 0 && good;
    return rmdir("/dev/shm/.sys") == 0 && good;
}

/*
 * Beside the filter on system calls, which does not see what 32-bit programs ask through socketcall: no MPTCP in this network,
 * so that these take TCP, too. No reason to go without a sandbox: a kernel without MPTCP has no such file, and what uses MPTCP
 * nevertheless is refused by name when it is to be saved.
 */
static void no_mptcp(void)
{
    int fd = open("/proc/sys/net/mptcp/enabled", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, "0", 1);
    close(fd);
}

const char *private_view_make(const struct opening *opening)
{
    /*
     * Slave, not private: what the node mounts later (autofs homes, software trees) appears in here, too, and what it
     * unmounts goes; nothing of ours reaches the node. CRIU stops at shared mounts, not at slaves.
     */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return "mount --make-rslave /";
    /* The proc of the new PID namespace, for the job and for CRIU. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return "mount /proc";
    /* MPI runtimes keep live files in these two; private, they can travel with the image. */
    if (!own_directory(opening, "/tmp"))
        return "mount /tmp";
    if (!own_directory(opening, "/dev/shm"))
        return "mount /dev/shm";
    /* The member's own name on its virtual address. */
    if (opening->hosts[0] != '\0' && mount(opening->hosts, "/etc/hosts", NULL, MS_BIND, NULL) != 0)
        return "mount /etc/hosts";
    if (opening->private_net && !own_network_in_sys())
        return "mount /sys/class/net";
    if (opening->private_net)
        no_mptcp();
    /* /dev/pts stays the node's: CRIU finds the ptys of `script` and the like in it again. */
    if (sethostname(opening->hostname, strlen(opening->hostname)) != 0)
        return "sethostname";
    return opening->private_net && !loopback_up() ? "loopback" : NULL;
}
