/* While the payload is frozen: what a file is and, where asked, what it holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "files.h"

/* linux/fs.h: the libc of a static build may come without the kernel's headers. */
#define FICLONE _IOW(0x94, 9, int)
#define BLOCK (1 << 20)

static char block[BLOCK];

static bool copy(int from, int to, off_t size)
{
    off_t start, end;
    for (off_t at = 0; at < size && next_data(from, at, &start, &end); at = end)
        for (off_t place = start; place < end;) {
            size_t length = end - place < BLOCK ? (size_t)(end - place) : BLOCK;
            ssize_t got = pread(from, block, length, place);
            if (got < 0 && errno == EINTR)
                continue;
            if (got == 0)
                break;
            if (got < 0 || !write_at(to, block, (size_t)got, place))
                return false;
            place += got;
        }
    return ftruncate(to, size) == 0;
}

/*
 * `how` is made of: r, a clone that shares the blocks (FICLONE); c, a plain copy where there is no clone; f, what the file holds
 * goes to its device: it stays where it is, and the node that has it in memory may die.
 */
static const char *take(int from, int to, off_t size, const char *how)
{
    if (strchr(how, 'f') != NULL && fdatasync(from) != 0 && errno != EINVAL && errno != EROFS)
        return NULL;
    if (strchr(how, 'r') != NULL && ioctl(to, FICLONE, from) == 0)
        return "clone";
    if (strchr(how, 'c') != NULL)
        return copy(from, to, size) ? "copy" : NULL;
    return strchr(how, 'r') != NULL ? "too-large" : "none";
}

void files_save(const char *source, const char *path, int to, const char *how)
{
    struct stat file, named;
    int from = open(source, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (from < 0 && errno == EACCES && strcmp(source, path) != 0)
        from = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW); /* /proc/PID/fd of a process that hides itself */
    if (from < 0) {
        answer_failed();
        return;
    }
    const char *taken = NULL;
    if (fstat(from, &file) != 0)
        answer_failed();
    else if (lstat(path, &named) != 0 || named.st_dev != file.st_dev || named.st_ino != file.st_ino || !S_ISREG(file.st_mode))
        answer("elsewhere");
    else if ((taken = take(from, to, file.st_size, how)) == NULL)
        answer_failed();
    else
        answer("saved %lld %lld %llu %u %s", (long long)file.st_size, file.st_mtim.tv_sec * 1000000000LL + file.st_mtim.tv_nsec,
               (unsigned long long)file.st_ino, (unsigned)(file.st_mode & 07777), taken);
    close(from);
}
