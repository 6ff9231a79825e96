/* Contents of files: what is equal is not written. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

#define BLOCK (1 << 20)

static char wanted[BLOCK], found[BLOCK];

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

/* A block of each. -1: one cannot be read; 0: they differ; 1: they are equal. */
static int compare_block(int from, off_t base, int to, off_t at, size_t length)
{
    ssize_t source = read_at(from, wanted, length, base + at);
    ssize_t target = read_at(to, found, length, at);
    if (source == (ssize_t)length && target >= 0)
        return target == source && memcmp(wanted, found, length) == 0;
    if (source >= 0 && target >= 0)
        errno = EIO; /* the copy is shorter than it must be */
    return -1;
}

static size_t block_at(off_t at, off_t size)
{
    return size - at < BLOCK ? (size_t)(size - at) : BLOCK;
}

off_t first_difference(int from, off_t base, int to, off_t size)
{
    for (off_t at = 0; at < size; at += (off_t)block_at(at, size)) {
        int equal = compare_block(from, base, to, at, block_at(at, size));
        if (equal != 1)
            return equal < 0 ? -1 : at;
    }
    return size;
}

bool make_equal(int from, off_t base, int to, off_t start, off_t size)
{
    for (off_t at = start; at < size; at += (off_t)block_at(at, size)) {
        int equal = compare_block(from, base, to, at, block_at(at, size));
        if (equal < 0 || (equal == 0 && !write_at(to, wanted, block_at(at, size), at)))
            return false;
    }
    return true;
}

void set_mtime(int fd, const char *nanoseconds)
{
    long long at = atoll(nanoseconds);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000}};
    (void)!futimens(fd, times);
}
