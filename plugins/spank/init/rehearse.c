/*
 * stint-init rehearse: PID 1 of a sandbox to be thrown away, in which a restore is tried while the payload stands frozen. Started by
 * the daemon in fresh PID, mount, IPC and network namespaces that were made from inside the payload's own mount namespace.
 *
 * Nothing on any file system can be changed from here: all mounts become read-only. What a restore must be able to do all the same
 * is named on standard input, words that end with NUL:
 *
 *   over PATH    a directory in which a restore makes and removes names (deleted files, FIFOs, bound sockets): an overlay in memory
 *   write PATH   a file that is open for writing: CRIU opens it, nobody writes, for no restored task ever runs. Also CRIU's own
 *                directory, for its log
 *   go           that was all; "ready" is the answer
 *
 * It ends with its standard input, and everything in its namespaces with it: a daemon that dies leaves nothing behind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "roles.h"

#define SCRATCH "/dev/shm"

/* linux/mount.h, which musl's compiler does not find. */
#define TREE_CLONE 1
#define TREE_CLOEXEC O_CLOEXEC
#define TREE_RECURSIVE 0x8000
#define MOVE_FROM_DESCRIPTOR 4
struct mount_attributes {
    uint64_t set, clear, propagation, user_namespace;
};
#define ATTRIBUTE_READONLY 1

struct place {
    char *path;
    int fd;
    bool over;
};

static struct place *places;
static int count;

static int fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    (void)fflush(stdout);
    return 1;
}

static bool read_word(char *word, size_t size)
{
    size_t length = 0;
    for (int c; length < size && (c = getchar()) != EOF; length++)
        if ((word[length] = (char)c) == '\0')
            return true;
    return false;
}

/* Opened before anything is mounted: an overlay below another one would be one layer more than the kernel allows. */
static bool pin(const char *path, bool over)
{
    struct place *more = realloc(places, (size_t)(count + 1) * sizeof *places);
    if (more == NULL)
        return false;
    places = more;
    struct place *place = &places[count];
    place->over = over;
    place->path = strdup(path);
    place->fd = over ? open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                     : (int)syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    if (place->path == NULL || place->fd < 0)
        return false;
    count++;
    return true;
}

/* The directories of the overlay have the owner and mode of the one below, which it would hide otherwise. */
static bool lay_over(int number)
{
    char upper[64], work[64], options[256];
    struct stat status;
    (void)snprintf(upper, sizeof upper, SCRATCH "/%d", number);
    (void)snprintf(work, sizeof work, SCRATCH "/%d.work", number);
    (void)snprintf(options, sizeof options, "lowerdir=/proc/self/fd/%d,upperdir=%s,workdir=%s", places[number].fd, upper, work);
    return fstat(places[number].fd, &status) == 0 && mkdir(upper, 0700) == 0 && mkdir(work, 0700) == 0 &&
           chown(upper, status.st_uid, status.st_gid) == 0 && chmod(upper, status.st_mode & 07777) == 0 &&
           mount("overlay", places[number].path, "overlay", MS_NOSUID | MS_NODEV, options) == 0;
}

static bool attach(const struct place *place)
{
    return syscall(SYS_move_mount, place->fd, "", AT_FDCWD, place->path, MOVE_FROM_DESCRIPTOR) == 0;
}

/* ptys are numbered as in the image, and those numbers are taken on the node. */
static bool own_ptys(void)
{
    struct stat status;
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5") != 0)
        return false;
    return lstat("/dev/ptmx", &status) != 0 || S_ISLNK(status.st_mode) || mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL) == 0;
}

static const char *make_view(void)
{
    struct mount_attributes readonly = {.set = ATTRIBUTE_READONLY};
    if (syscall(SYS_mount_setattr, AT_FDCWD, "/", TREE_RECURSIVE, &readonly, sizeof readonly) != 0)
        return "mount_setattr";
    /* The proc of the new PID namespace, writable: CRIU sets what a process inherits by it. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return "mount /proc";
    if (mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") != 0)
        return "mount the upper layers";
    for (int i = 0; i < count; i++)
        if (places[i].over && !lay_over(i))
            return places[i].path;
    for (int i = 0; i < count; i++)
        if (!places[i].over && !attach(&places[i]))
            return places[i].path;
    /* Empty: what belongs in these two is unpacked from the image. The upper layers live on below the second. */
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0)
        return "mount /tmp";
    if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0)
        return "mount /dev/shm";
    return own_ptys() ? NULL : "mount /dev/pts";
}

int rehearse_main(void)
{
    static char verb[8], path[PATH_MAX];
    /* Whatever is left of a restored tree is adopted by this process, and needs no reaping. */
    if (signal(SIGCHLD, SIG_IGN) == SIG_ERR)
        return fail("signal");
    for (;;) {
        if (!read_word(verb, sizeof verb))
            return 2;
        if (strcmp(verb, "go") == 0)
            break;
        if (!read_word(path, sizeof path))
            return 2;
        if (!pin(path, strcmp(verb, "over") == 0))
            return fail(path);
    }
    const char *failed = make_view();
    if (failed != NULL)
        return fail(failed);
    for (int i = 0; i < count; i++)
        close(places[i].fd);
    if (puts("ready") < 0 || fflush(stdout) != 0)
        return 1;
    while (getchar() != EOF)
        ;
    return 0;
}
