/* Contents of files: what is a hole stays one, what is equal is not written. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

#define BLOCK (1 << 20)

static char wanted[BLOCK], found[BLOCK];

bool next_data(int fd, off_t offset, off_t *start, off_t *end)
{
    *start = lseek(fd, offset, SEEK_DATA);
    if (*start < 0 && errno == ENXIO)
        return false;
    *end = *start < 0 ? -1 : lseek(fd, *start, SEEK_HOLE);
    if (*start >= 0 && *end >= 0)
        return true;
    *start = offset;
    *end = lseek(fd, 0, SEEK_END);
    return *end > offset;
}

bool write_at(int fd, const char *bytes, size_t length, off_t offset)
{
    while (length > 0) {
        ssize_t put = pwrite(fd, bytes, length, offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        bytes += put;
        length -= (size_t)put;
        offset += put;
    }
    return true;
}

/* As much as there is, up to a block; less only at the end of the file. */
static ssize_t read_at(int fd, char *bytes, size_t length, off_t offset)
{
    size_t have = 0;
    while (have < length) {
        ssize_t got = pread(fd, bytes + have, length - have, offset + (off_t)have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

bool make_equal(int from, int to, off_t size)
{
    for (off_t at = 0; at < size;) {
        size_t length = size - at < BLOCK ? (size_t)(size - at) : BLOCK;
        ssize_t source = read_at(from, wanted, length, at);
        ssize_t target = read_at(to, found, length, at);
        if (source != (ssize_t)length || target < 0) {
            if (source >= 0 && target >= 0)
                errno = EIO; /* the copy is shorter than it must be */
            return false;
        }
        if ((target != source || memcmp(wanted, found, length) != 0) && !write_at(to, wanted, length, at))
            return false;
        at += (off_t)length;
    }
    return true;
}

void set_mtime(int fd, const char *nanoseconds)
{
    long long at = atoll(nanoseconds);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000}};
    (void)!futimens(fd, times);
}
