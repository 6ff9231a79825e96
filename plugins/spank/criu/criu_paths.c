/*
 * LD_PRELOAD for criu, part of criu-shim.so: which paths CRIU reaches as whom. It has the file system ids of the job's user
 * (criu_identity.c), and here is all that is done otherwise:
 *
 * 1. As root: names in the image directory and in the directory of its log, which are root's and which no user can enter, and the cache
 *    of kernel features. Never a name with a slash, never through a link.
 * 2. As root: what the user's ids may not open in /proc, such as the files of a task that is not dumpable. Only below a directory of a
 *    proc file system, without following the links of /proc that lead out of it.
 * 3. As the payload, without any capability: every other path. What has taken a path's place since the dump opens no more than the user
 *    could open, and what the kernel asks of the opener later (/proc/PID/pagemap) it asks of a user. A link of the user's making on a
 *    path is not followed: the payload's paths had none when they were recorded. With root's file system ids, but no capability: what
 *    a task has open of itself in /proc.
 * 4. With CAP_DAC_READ_SEARCH, in a dump: open_by_handle_at, which tells the path of what inotify watches (criu_limits.c calls it).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "criu_deleted.h"
#include "criu_identity.h"

#define DIRECTORIES 2
static const char kernel_features[] = "/run/criu.kdat", proc[] = "/proc/";

/* CRIU's own directories, by path and as they were when it began. */
static struct {
    const char *path;
    dev_t device;
    ino_t inode;
} own[DIRECTORIES];

__attribute__((constructor)) static void find_directories(void)
{
    static const char *const names[DIRECTORIES] = {"STINT_IMAGES", "STINT_WORK"};
    for (int i = 0; i < DIRECTORIES; i++) {
        struct stat status;
        const char *path = getenv(names[i]);
        identity_enter(ROOT);
        if (path != NULL && lstat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
            own[i].path = path;
            own[i].device = status.st_dev;
            own[i].inode = status.st_ino;
        }
        identity_leave(ROOT);
    }
}

static struct stat log_file;

static bool is_own_directory(int fd)
{
    struct stat status;
    /* Of the working directory, too, without looking up a name in it. */
    if (!identity_is_set() || syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) != 0)
        return false;
    for (int i = 0; i < DIRECTORIES; i++)
        if (own[i].path != NULL && own[i].device == status.st_dev && own[i].inode == status.st_ino)
            return true;
    return false;
}

static bool is_own_path(const char *path)
{
    for (int i = 0; i < DIRECTORIES; i++)
        if (own[i].path != NULL && strcmp(own[i].path, path) == 0)
            return true;
    return strcmp(path, kernel_features) == 0;
}

static bool is_own(int directory, const char *path)
{
    if (!identity_is_set())
        return false;
    return *path == '/' ? is_own_path(path) : strchr(path, '/') == NULL && is_own_directory(directory);
}

static bool is_proc(int directory)
{
    struct statfs system;
    return directory >= 0 && fstatfs(directory, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

static int open_with(int directory, const char *path, int flags, mode_t mode, unsigned resolve)
{
    struct open_how how = {.flags = (unsigned)flags, .mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode & 07777 : 0, .resolve = resolve};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

/*
 * What a link of /proc leads to, in a directory that only root may search. Root takes hold of it without opening it, and it is opened
 * as the user; of a mapped file that may be executed but not read CRIU wants the attributes alone.
 */
static int open_behind_link(int directory, const char *path, int flags)
{
    char link[32];
    struct stat status;
    identity_enter(ROOT);
    int held = (int)syscall(SYS_openat, directory, path, O_PATH | O_CLOEXEC);
    identity_leave(ROOT);
    if (held < 0 || (flags & O_PATH) != 0)
        return held;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", held);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, link, flags);
    int error = errno;
    if (fd < 0 && error == EACCES && (flags & O_ACCMODE) == O_RDONLY && fstat(held, &status) == 0 && S_ISREG(status.st_mode))
        return held;
    (void)syscall(SYS_close, held);
    errno = error;
    return fd;
}

/* @param path below /proc, or below `directory`, which is of a proc file system; as the user, else as root, without leaving it */
static int open_in_proc(int directory, const char *path, int flags, mode_t mode)
{
    int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 || (errno != EACCES && errno != EPERM))
        return fd;
    identity_enter(ROOT);
    fd = open_with(directory, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    identity_leave(ROOT);
    return fd >= 0 || (errno != ELOOP && errno != EINVAL) ? fd : open_behind_link(directory, path, flags);
}

static int open_below_proc(const char *path, int flags, mode_t mode)
{
    int top = (int)syscall(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (top < 0)
        return -1;
    int fd = is_proc(top) ? open_in_proc(top, path, flags, mode) : -1;
    int error = errno;
    (void)syscall(SYS_close, top);
    errno = error;
    return fd;
}

/* Whether a link on the path was made by another than root. Sites link directories; nobody's safety hangs on this look. */
static bool has_users_link(int directory, const char *path)
{
    char prefix[PATH_MAX];
    struct stat status;
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return true;
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        if (fstatat(directory, prefix, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode) && status.st_uid != 0)
            return true;
    }
    return false;
}

static int open_once(int directory, const char *path, int flags, mode_t mode)
{
    int fd = open_with(directory, path, flags, mode, RESOLVE_NO_SYMLINKS);
    /* openat2 also refuses flags that openat lets pass. */
    if (fd < 0 && (errno == ELOOP || errno == EINVAL) && !has_users_link(directory, path))
        fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    return fd;
}

/* What a task has open of itself: while CRIU works in it, its files in /proc are root's. Still without any capability. */
static int open_own_proc(int root, const char *path, int flags)
{
    char own_directory[32];
    int length = snprintf(own_directory, sizeof own_directory, "proc/%ld/", syscall(SYS_getpid));
    if (strncmp(path, own_directory, (size_t)length) != 0)
        return -1;
    int task = open_with(root, own_directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS);
    if (task < 0)
        return -1;
    int fd = -1;
    if (is_proc(task)) {
        identity_enter(ROOT);
        identity_enter(PAYLOAD);
        fd = open_with(task, path + length, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        identity_leave(PAYLOAD);
        identity_leave(ROOT);
    }
    (void)syscall(SYS_close, task);
    return fd;
}

/*
 * The user's own file whose mode keeps the user out (made read-only while it was open for writing): the mode is another one for the
 * length of the call, as the user could have it, too.
 */
static int open_own_file(int directory, const char *path, int flags)
{
    char link[32];
    struct stat status;
    int fd = -1, file = open_with(directory, path, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS);
    if (file < 0)
        return -1;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    mode_t needed = (flags & O_ACCMODE) == O_RDONLY ? 0400 : (flags & O_ACCMODE) == O_WRONLY ? 0200 : 0600;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & (S_ISUID | S_ISGID)) == 0 && (status.st_mode & needed) != needed && chmod(link, (status.st_mode & 07777) | needed) == 0) {
        fd = (int)syscall(SYS_openat, AT_FDCWD, link, flags & ~O_NOFOLLOW);
        if (chmod(link, status.st_mode & 07777) != 0 && fd >= 0) {
            (void)syscall(SYS_close, fd);
            fd = -1;
        }
    }
    (void)syscall(SYS_close, file);
    return fd;
}

static int open_for_payload(int directory, const char *path, int flags, mode_t mode)
{
    identity_enter(PAYLOAD);
    int fd = open_once(directory, path, flags | O_LARGEFILE, mode);
    bool closed = fd < 0 && errno == EACCES && (flags & (O_CREAT | O_PATH)) == 0;
    if (closed)
        fd = open_own_file(directory, path, flags);
    identity_leave(PAYLOAD);
    if (closed && fd < 0 && *path != '/')
        fd = open_own_proc(directory, path, flags);
    if (closed && fd < 0)
        errno = EACCES;
    return fd;
}

static int open_at(int directory, const char *path, int flags, mode_t mode)
{
    if (!identity_is_set())
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    if (is_own(directory, path)) {
        const char *renamed = (flags & O_ACCMODE) == O_RDONLY && strcmp(path, "files.img") == 0 ? getenv("STINT_FILES") : NULL;
        if (renamed != NULL) {
            directory = AT_FDCWD;
            path = renamed;
        }
        identity_enter(ROOT);
        int fd = (int)syscall(SYS_openat, directory, path, flags | O_NOFOLLOW, mode);
        identity_leave(ROOT);
        if (fd >= 0 && directory == AT_FDCWD && (flags & O_APPEND) != 0)
            (void)syscall(SYS_newfstatat, fd, "", &log_file, AT_EMPTY_PATH);
        /* Images of a Stint whose dumps were the user's processes are the user's. */
        return fd >= 0 || errno != EACCES ? fd : (int)syscall(SYS_openat, directory, path, flags | O_NOFOLLOW, mode);
    }
    if (strncmp(path, proc, sizeof proc - 1) == 0)
        return open_below_proc(path + sizeof proc - 1, flags, mode);
    return *path != '/' && is_proc(directory) ? open_in_proc(directory, path, flags, mode) : open_for_payload(directory, path, flags, mode);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int fd = open_at(AT_FDCWD, path, flags, mode_of(flags, arguments));
    va_end(arguments);
    return fd;
}

int openat64(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int fd = open_at(directory, path, flags, mode_of(flags, arguments));
    va_end(arguments);
    return fd;
}

/* The same by the names that a CRIU has which was built with other macros of libc. */
int open(const char *path, int flags, ...) __attribute__((alias("open64")));
int openat(int directory, const char *path, int flags, ...) __attribute__((alias("openat64")));
int __open64_2(const char *path, int flags) __attribute__((alias("open64")));
int __openat64_2(int directory, const char *path, int flags) __attribute__((alias("openat64")));
int __open_2(const char *path, int flags) __attribute__((alias("open64")));
int __openat_2(int directory, const char *path, int flags) __attribute__((alias("openat64")));

/* What looks at a name in one of CRIU's own directories, or in /proc where the user's ids may not. */
static bool as_root_too(int directory, const char *path)
{
    return identity_is_set() && *path != '/' && (is_own(directory, path) || is_proc(directory));
}

int fstatat64(int directory, const char *path, struct stat64 *status, int flags)
{
    int result = (int)syscall(SYS_newfstatat, directory, path, status, flags);
    if (result == 0)
        owner_as_wanted(path, status);
    if (result == 0 || errno != EACCES || !as_root_too(directory, path))
        return result;
    identity_enter(ROOT);
    result = (int)syscall(SYS_newfstatat, directory, path, status, flags);
    identity_leave(ROOT);
    return result;
}

ssize_t readlinkat(int directory, const char *path, char *text, size_t size)
{
    ssize_t length = syscall(SYS_readlinkat, directory, path, text, size);
    if (length >= 0 || errno != EACCES || !as_root_too(directory, path))
        return length;
    identity_enter(ROOT);
    length = syscall(SYS_readlinkat, directory, path, text, size);
    identity_leave(ROOT);
    return length;
}

int unlinkat(int directory, const char *path, int flags)
{
    bool as_root = is_own(directory, path);
    if (as_root)
        identity_enter(ROOT);
    int result = (int)syscall(SYS_unlinkat, directory, path, flags);
    if (as_root)
        identity_leave(ROOT);
    return result;
}

/*
 * Where the kernel has AppArmor, every dump makes a directory for policies in its working directory and removes it again; CRIU fills it
 * only for profiles in a namespace of their own. In a relative name of one component there is no link to follow.
 */
char *mkdtemp(char *template)
{
    static char *(*real)(char *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "mkdtemp");
    if (real == NULL) {
        errno = ENOSYS;
        return NULL;
    }
    bool as_root = is_own(AT_FDCWD, template);
    if (as_root)
        identity_enter(ROOT);
    char *made = real(template);
    if (as_root)
        identity_leave(ROOT);
    return made;
}

int nftw64(const char *path, int (*visit)(const char *, const struct stat64 *, int, struct FTW *), int descriptors, int flags)
{
    static int (*real)(const char *, int (*)(const char *, const struct stat64 *, int, struct FTW *), int, int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "nftw64");
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    bool as_root = is_own(AT_FDCWD, path);
    if (as_root)
        identity_enter(ROOT);
    int result = real(path, visit, descriptors, flags);
    if (as_root)
        identity_leave(ROOT);
    return result;
}

int chdir(const char *path)
{
    bool as_root = identity_is_set() && is_own_path(path);
    if (as_root)
        identity_enter(ROOT);
    int result = (int)syscall(SYS_chdir, path);
    if (as_root)
        identity_leave(ROOT);
    return result;
}

int fchdir(int directory)
{
    bool as_root = is_own_directory(directory);
    if (as_root)
        identity_enter(ROOT);
    int result = (int)syscall(SYS_fchdir, directory);
    if (as_root)
        identity_leave(ROOT);
    return result;
}

/* access(2) asks for the real ids, which are root's: the user's are meant. */
int faccessat(int directory, const char *path, int mode, int flags)
{
    return (int)syscall(SYS_faccessat2, directory, path, mode, identity_is_set() ? flags | AT_EACCESS : flags);
}

int access(const char *path, int mode)
{
    return faccessat(AT_FDCWD, path, mode, 0);
}

/* By the link in /proc: AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH. Both need a file that still has a name. */
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char link[64];
    if (!identity_is_set() || *old != '\0' || (flags & AT_EMPTY_PATH) == 0)
        return (int)syscall(SYS_linkat, from, old, to, new, flags);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", from);
    return (int)syscall(SYS_linkat, AT_FDCWD, link, to, new, AT_SYMLINK_FOLLOW);
}

static bool is_log(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && log_file.st_nlink != 0 && status.st_dev == log_file.st_dev && status.st_ino == log_file.st_ino;
}

/*
 * A dump hands its log to the parasite, which works inside the payload: any process of the user could take it from there, and write what
 * it likes. The parasite gets /dev/null; what goes wrong in it CRIU says, too.
 */
ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    int *sent = NULL, log = -1, null = -1;
    struct cmsghdr *header = identity_is_set() ? CMSG_FIRSTHDR(message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        sent = (int *)(void *)CMSG_DATA(header);
        if (is_log(*sent)) {
            log = *sent;
            null = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY | O_CLOEXEC);
            if (null < 0)
                return -1;
            *sent = null;
        }
    }
    ssize_t length = syscall(SYS_sendmsg, socket, message, flags);
    int error = errno;
    if (null >= 0) {
        *sent = log;
        (void)syscall(SYS_close, null);
    }
    errno = error;
    return length;
}

/* The action scripts: their file system ids are those that are effective when they begin. */
int execvp(const char *file, char *const arguments[])
{
    static int (*real)(const char *, char *const[]);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "execvp");
    if (real == NULL || !identity_before_exec()) {
        errno = EPERM;
        return -1;
    }
    return real(file, arguments);
}
