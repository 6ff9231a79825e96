#define _GNU_SOURCE
#include "close_from.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By number: glibc has closefrom() and close_range() since 2.34, RHEL 8's is older. It is the same number on all architectures but alpha. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define LISTING_BYTES 4096

/*
 * Closes what one listing of /proc/self/fd tells, from `first` on, but not the listing itself.
 * @return how many; -1 on a fault
 */
static int close_listed(int listing, int first)
{
    char bytes[LISTING_BYTES] __attribute__((aligned(__alignof__(struct dirent64))));
    int closed = 0;
    long length;
    if (lseek(listing, 0, SEEK_SET) != 0)
        return -1;
    while ((length = syscall(SYS_getdents64, listing, bytes, sizeof bytes)) > 0) {
        for (long at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(bytes + at);
            int fd = atoi(entry->d_name);
            if (fd >= first && fd != listing) {
                (void)close(fd);
                closed++;
            }
            at += entry->d_reclen;
        }
    }
    return length == 0 ? closed : -1;
}

/* For kernels without close_range (before 5.9). A listing may skip what moves under it: until one is empty. */
static bool close_by_listing(int first)
{
    int listing = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int closed = 1;
    while (listing >= 0 && closed > 0)
        closed = close_listed(listing, first);
    if (listing >= 0)
        (void)close(listing);
    return listing >= 0 && closed == 0;
}

bool close_from(int first)
{
    return syscall(SYS_close_range, (unsigned)first, ~0U, 0) == 0 || close_by_listing(first);
}
