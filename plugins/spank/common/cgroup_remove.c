#define _GNU_SOURCE
#include "cgroup_remove.h"

#include <errno.h>
#include <unistd.h>

#include "clock.h"

void cgroup_remove(const char *directory, int ms)
{
    long long end = now_ms() + ms;
    while (rmdir(directory) != 0 && errno == EBUSY && now_ms() < end)
        usleep(1000);
}
