/*
 * While the payload is frozen: what a file is and, where asked, what it holds. Nothing of this may be seen by the payload, which may
 * run on: an open() would break a lease that it holds on the file (SIGIO ends who does not expect it) and be an event for whoever
 * watches the file. So the file is reached by a duplicate of the payload's own descriptor (pidfd_getfd(2), no open), and read by a
 * mapping of it (no read(2): no IN_ACCESS).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "files.h"

/* linux/fs.h: the libc of a static build may come without the kernel's headers. */
#define FICLONE _IOW(0x94, 9, int)
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* Where copies are packed, one behind the other: opened by the daemon. */
#define PACK 3
#define WINDOW (64L << 20) /* of a mapping */
#define PIECE (64L << 10)  /* read at once; left out as a hole when it holds nothing but zeros */

static char piece[PIECE];
static off_t packed; /* where the next file begins in the pack */

#define CAP_SYS_PTRACE 19
#define CAP_VERSION 0x20080522

/* Names are looked up without any right of root; only taking a descriptor of a process may need one (Yama, processes that hide themselves). */
static void use_ptrace_capability(bool use)
{
    struct { unsigned version; int pid; } header = {CAP_VERSION, 0};
    static struct { unsigned effective, permitted, inheritable; } sets[2];
    if (sets[0].permitted == 0 && syscall(SYS_capget, &header, sets) != 0)
        return;
    sets[0].effective = use ? sets[0].permitted & 1u << CAP_SYS_PTRACE : 0;
    sets[1].effective = 0;
    if (sets[0].permitted != 0 && syscall(SYS_capset, &header, sets) != 0)
        _exit(1);
}

/* A duplicate of a descriptor of another process. @param pid as this process's PID namespace numbers it */
static int duplicate(int pid, int descriptor)
{
    static int known_pid, pidfd = -1; /* mostly one process has many files */
    if (pid != known_pid) {
        if (pidfd >= 0)
            close(pidfd);
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        known_pid = pid;
    }
    if (pidfd < 0)
        return -1;
    use_ptrace_capability(true);
    int fd = (int)syscall(SYS_pidfd_getfd, pidfd, descriptor, 0);
    int why = errno;
    use_ptrace_capability(false);
    errno = why;
    return fd;
}

/*
 * Mapping a file is an access, which moves its access time unless the open file says otherwise; that flag is set for this one call.
 * Whoever has the file open is frozen meanwhile.
 */
static void *map_unseen(int fd, off_t at, size_t length)
{
    int flags = fcntl(fd, F_GETFL);
    bool changed = flags >= 0 && (flags & O_NOATIME) == 0 && fcntl(fd, F_SETFL, flags | O_NOATIME) == 0;
    void *map = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, at);
    int why = errno;
    if (changed)
        (void)!fcntl(fd, F_SETFL, flags);
    errno = why;
    return map;
}

static bool is_zero(const char *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/*
 * Of a mapping, or by read(2) where the file system has none. By process_vm_readv(2), since a file that somebody shortens meanwhile
 * must not end this process (SIGBUS).
 */
static ssize_t read_piece(const char *map, int fd, size_t length, off_t at)
{
    if (map == NULL)
        return pread(fd, piece, length, at);
    struct iovec to = {piece, length}, from = {(char *)map, length};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

static bool pack_window(const char *map, int fd, off_t at, size_t length)
{
    for (size_t done = 0; done < length;) {
        size_t wanted = length - done < PIECE ? length - done : PIECE;
        ssize_t got = read_piece(map == NULL ? NULL : map + done, fd, wanted, at + (off_t)done);
        if (got <= 0) {
            errno = EIO;
            return false;
        }
        if (!is_zero(piece, (size_t)got) && !write_at(PACK, piece, (size_t)got, packed + at + (off_t)done))
            return false;
        done += (size_t)got;
    }
    return true;
}

/* Appends a file to the pack. */
static bool pack(int fd, off_t size)
{
    for (off_t at = 0; at < size; at += WINDOW) {
        size_t length = size - at < WINDOW ? (size_t)(size - at) : (size_t)WINDOW;
        void *map = map_unseen(fd, at, length);
        if (map == MAP_FAILED && errno != ENODEV)
            return false;
        bool done = pack_window(map == MAP_FAILED ? NULL : map, fd, at, length);
        if (map != MAP_FAILED)
            munmap(map, length);
        if (!done)
            return false;
    }
    if (ftruncate(PACK, packed + size) != 0)
        return false;
    packed += size;
    return true;
}

/*
 * `how` is made of: r, a clone that shares the blocks (FICLONE); c, a copy in the pack where there is no clone; f, what the file holds
 * goes to its device: it stays where it is, and the node that has it in memory may die. NULL with errno where that fails.
 */
static const char *take(int fd, int clone, off_t size, const char *how)
{
    if (strchr(how, 'f') != NULL && fdatasync(fd) != 0 && errno != EINVAL && errno != EROFS)
        return NULL;
    if (strchr(how, 'r') != NULL && ioctl(clone, FICLONE, fd) == 0)
        return "clone";
    if (strchr(how, 'c') != NULL)
        return pack(fd, size) ? "copy" : NULL;
    return strchr(how, 'r') != NULL ? "too-large" : "none";
}

static int open_named(const char *source, const char *path)
{
    const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd = open(source, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = open(source, flags); /* somebody else's */
    if (fd < 0 && errno == EACCES && strcmp(source, path) != 0)
        fd = open(path, flags | O_NOFOLLOW); /* /proc/PID/fd of a process that hides itself */
    return fd;
}

static void save(int fd, const char *source, const char *path, int clone, const char *how)
{
    struct stat file, named;
    if (fstat(fd, &file) != 0) {
        answer_failed();
        return;
    }
    if (lstat(path, &named) != 0 || named.st_dev != file.st_dev || named.st_ino != file.st_ino || !S_ISREG(file.st_mode)) {
        answer("elsewhere");
        return;
    }
    const char *taken = "unseen";
    off_t offset = packed;
    if (strpbrk(how, "rc") == NULL || file.st_size == 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
        taken = take(fd, clone, file.st_size, how);
    else if (*source != '\0') {
        int own = open_named(source, path);
        taken = own >= 0 ? take(own, clone, file.st_size, how) : NULL;
        int why = errno;
        if (own >= 0)
            close(own);
        errno = why;
    } else
        (void)!fdatasync(fd); /* as with `f` */
    if (taken == NULL)
        answer_failed();
    else
        answer("saved %lld %lld %llu %u %s %lld", (long long)file.st_size, file.st_mtim.tv_sec * 1000000000LL + file.st_mtim.tv_nsec,
               (unsigned long long)file.st_ino, (unsigned)(file.st_mode & 07777), taken, (long long)offset);
}

/*
 * @param pid and descriptor of a payload process; -1: none
 * @param source opened where they do not serve; empty: that would be seen, and must not be
 */
void files_save(int pid, int descriptor, const char *source, const char *path, int clone, const char *how)
{
    static bool begun;
    struct stat written;
    if (!begun) {
        use_ptrace_capability(false);
        packed = fstat(PACK, &written) == 0 ? written.st_size : 0;
        begun = true;
    }
    int fd = pid > 0 ? duplicate(pid, descriptor) : -1;
    if (fd < 0 && *source != '\0')
        fd = open_named(source, path);
    if (fd < 0) {
        answer_failed();
        return;
    }
    save(fd, source, path, clone, how);
    close(fd);
}
