/* Before a restore: files become what they were. Each of these may be cut short and done again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "files.h"

#define FICLONE _IOW(0x94, 9, int) /* linux/fs.h */
#define KEPT_MAX (64 << 10)
#define NEWS_ENTRIES_MAX 100000

/* Until a lease that somebody else holds on the file is given up or broken: fs.lease-break-time is 45 s by default. */
#define LEASE_TRIES 600
#define LEASE_PAUSE_NS 100000000L

/* Never through a link that has taken the file's place, never on a FIFO that waits. */
static int open_file(const char *path, int flags)
{
    const struct timespec pause = {.tv_nsec = LEASE_PAUSE_NS};
    flags |= O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(path, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = open(path, flags); /* somebody else's */
    for (int tries = 0; fd < 0 && errno == EWOULDBLOCK && tries < LEASE_TRIES; tries++) {
        (void)!nanosleep(&pause, NULL);
        fd = open(path, flags);
    }
    struct stat file;
    if (fd >= 0 && (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

static void answer_and_close(bool done, int fd)
{
    if (done)
        answer("done");
    else
        answer_failed();
    if (fd >= 0)
        close(fd);
}

void files_look(const char *path)
{
    struct stat file;
    if (lstat(path, &file) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            answer("missing");
        else
            answer_failed();
    } else if (!S_ISREG(file.st_mode))
        answer("other");
    else
        answer("file %lld %lld %llu", (long long)file.st_size, file.st_mtim.tv_sec * 1000000000LL + file.st_mtim.tv_nsec, (unsigned long long)file.st_ino);
}

/* Whole lines that Stint and Slurm, not the job, wrote behind `size` into the job's output. */
static size_t lines_to_keep(int fd, off_t size, char *kept)
{
    static char line[4096];
    size_t length = 0;
    int copy = dup(fd);
    FILE *tail = copy >= 0 ? fdopen(copy, "r") : NULL;
    if (tail == NULL || fseeko(tail, size, SEEK_SET) != 0) {
        if (tail != NULL)
            fclose(tail);
        else if (copy >= 0)
            close(copy);
        return 0;
    }
    for (bool at_start = true; fgets(line, sizeof line, tail) != NULL;) {
        size_t got = strlen(line);
        bool ours = at_start && (strncmp(line, "stint: ", 7) == 0 || strncmp(line, "slurmstepd: ", 12) == 0);
        at_start = got > 0 && line[got - 1] == '\n';
        if (ours && at_start && length + got <= KEPT_MAX) {
            memcpy(kept + length, line, got);
            length += got;
        }
    }
    fclose(tail);
    return length;
}

void files_cut(const char *path, off_t size, bool keep_lines, const char *mtime)
{
    static char kept[KEPT_MAX];
    int fd = open_file(path, keep_lines ? O_RDWR : O_WRONLY);
    size_t length = fd >= 0 && keep_lines ? lines_to_keep(fd, size, kept) : 0;
    bool done = fd >= 0 && ftruncate(fd, size) == 0 && write_at(fd, kept, length, size);
    if (done)
        set_mtime(fd, mtime);
    answer_and_close(done, fd);
}

/* Shares the blocks where the whole of `from` is the content, and the file system can. */
static bool make_clone(int from, off_t base, int to, off_t size)
{
    struct stat content;
    return base == 0 && fstat(from, &content) == 0 && content.st_size == size && ioctl(to, FICLONE, from) == 0;
}

/* Opened for writing only where there is something to write: that alone breaks a lease for reading, and is an event for who watches. */
void files_rewrite(const char *path, int from, off_t base, off_t size, const char *mtime)
{
    struct stat file;
    int fd = open_file(path, O_RDONLY);
    off_t same = fd >= 0 && fstat(fd, &file) == 0 ? first_difference(from, base, fd, size) : -1;
    bool done = same >= 0;
    if (done && (same < size || file.st_size != size)) {
        close(fd);
        fd = open_file(path, O_RDWR);
        done = fd >= 0 && (make_clone(from, base, fd, size) || make_equal(from, base, fd, same, size)) && fstat(fd, &file) == 0 &&
               (file.st_size == size || ftruncate(fd, size) == 0);
    }
    if (done)
        set_mtime(fd, mtime);
    answer_and_close(done, fd);
}

/* The directories of a path, as far as they are missing. */
static void make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)!mkdir(path, 0777);
        *slash = '/';
    }
}

void files_create(const char *path, int from, off_t base, off_t size, mode_t mode, const char *mtime)
{
    static char beside[PATH_MAX + 64];
    if (snprintf(beside, sizeof beside, "%s.stint-rollback", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        answer_failed();
        return;
    }
    make_parents(beside);
    (void)!unlink(beside); /* of a try that was cut short */
    int fd = open(beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool done = fd >= 0 && (make_clone(from, base, fd, size) || make_equal(from, base, fd, 0, size)) && ftruncate(fd, size) == 0 && fchmod(fd, mode) == 0;
    if (done)
        set_mtime(fd, mtime);
    done = done && rename(beside, path) == 0;
    if (!done && fd >= 0) {
        int why = errno;
        (void)!unlink(beside);
        errno = why;
    }
    answer_and_close(done, fd);
}

/* Whether a file of ours changed after `since`. */
static bool is_news(const struct stat *file, long long since)
{
    return S_ISREG(file->st_mode) && file->st_uid == geteuid() && file->st_ctim.tv_sec * 1000000000LL + file->st_ctim.tv_nsec > since;
}

static bool is_sqlite(const char *path)
{
    char header[16];
    int fd = open_file(path, O_RDONLY);
    bool is = fd >= 0 && read(fd, header, sizeof header) == sizeof header && memcmp(header, "SQLite format 3", sizeof header) == 0;
    if (fd >= 0)
        close(fd);
    return is;
}

/* A journal that came after the freeze holds pages of a later time; SQLite would play them into the database that was put back. */
void files_aside(const char *database, const char *journal, long long since)
{
    static char aside[PATH_MAX + 64];
    struct stat file;
    if (lstat(journal, &file) != 0 || !is_news(&file, since) || !is_sqlite(database))
        answer("none");
    else if (snprintf(aside, sizeof aside, "%s.stint-aside", journal) < PATH_MAX && rename(journal, aside) == 0)
        answer("moved %s", aside);
    else
        answer_failed();
}

void files_news(const char *directory, long long since)
{
    DIR *entries = opendir(directory);
    if (entries == NULL) {
        answer_failed();
        return;
    }
    struct dirent *entry;
    for (int seen = 0; seen < NEWS_ENTRIES_MAX && (entry = readdir(entries)) != NULL; seen++) {
        struct stat file;
        if (fstatat(dirfd(entries), entry->d_name, &file, AT_SYMLINK_NOFOLLOW) == 0 && is_news(&file, since))
            answer("new %s/%s", directory, entry->d_name);
    }
    closedir(entries);
    answer("done");
}
