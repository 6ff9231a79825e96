/*
 * LD_PRELOAD for criu, part of criu-shim.so: deleted files where the user may not do what CRIU, made for root, does with them.
 *
 * 1. In a dump: a file with a removed name and another one left is linked beside the removed name. Where the user may not make that link,
 *    or another file has the name, CRIU is shown a file without any name, which it copies into the image. Only what is open for reading;
 *    a copy of what is written would part from the file (core/deleted-names.ts refuses such a save).
 * 2. In a restore: a copy of somebody else's file is the user's. CRIU compares the owner after it was refused to change it.
 */
#define _GNU_SOURCE
#include "criu_deleted.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu_identity.h"

static const char suffix[] = " (deleted)";

/* @param link of /proc to the file, whose name was `path` */
static bool can_link(const char *link, char *path, const struct stat64 *file)
{
    struct stat64 there;
    char *name = strrchr(path, '/');
    /* fs.protected_hardlinks: nobody links what is another's and closed to him. */
    if (file->st_uid != identity_user() && syscall(SYS_faccessat2, AT_FDCWD, link, R_OK | W_OK, AT_EACCESS) != 0)
        return false;
    if (syscall(SYS_newfstatat, AT_FDCWD, path, &there, AT_SYMLINK_NOFOLLOW) == 0)
        return false;
    /* CRIU takes the nearest directory that is there. */
    for (; name != NULL; name = strrchr(path, '/')) {
        bool top = name == path;
        name[top ? 1 : 0] = '\0';
        if (syscall(SYS_faccessat2, AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0)
            return true;
        if (errno != ENOENT || top)
            return false;
    }
    return false;
}

static bool is_to_be_copied(int fd, const struct stat64 *file)
{
    char link[32], path[PATH_MAX];
    if (!identity_is_dump() || !S_ISREG(file->st_mode) || file->st_nlink == 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
        return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path);
    if (length <= (ssize_t)sizeof suffix || length == sizeof path || *path != '/')
        return false;
    path[length] = '\0';
    char *end = path + length - (sizeof suffix - 1);
    if (strcmp(end, suffix) != 0)
        return false;
    *end = '\0';
    return !can_link(link, path, file);
}

int fstat64(int fd, struct stat64 *status)
{
    int result = (int)syscall(SYS_fstat, fd, status);
    int error = errno;
    if (result == 0 && is_to_be_copied(fd, status))
        status->st_nlink = 0;
    errno = error;
    return result;
}

static struct {
    const char *path; /* NULL: none was refused */
    uid_t uid;
    gid_t gid;
} wanted;

int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags)
{
    int result = (int)syscall(SYS_fchownat, directory, path, uid, gid, flags);
    bool refused = result != 0 && errno == EPERM && identity_is_set() && !identity_is_dump();
    wanted.path = refused ? path : NULL;
    wanted.uid = uid;
    wanted.gid = gid;
    return result;
}

void owner_as_wanted(const char *path, struct stat64 *status)
{
    if (wanted.path != path || wanted.path == NULL)
        return;
    wanted.path = NULL;
    if (status->st_uid != identity_user())
        return;
    status->st_uid = wanted.uid;
    status->st_gid = wanted.gid;
}
