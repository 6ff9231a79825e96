#define _GNU_SOURCE
#include "placement.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cgroup_remove.h"
#include "clock.h"
#include "bounds.h"

#define REMOVE_MS 2000

/* Shared between slurmstepd and the task it forks. */
struct notes {
    char cgroup[CGROUPS_MAX][CGROUP_PATH_MAX];
};

static int placed = -1; /* An eventfd: readable when the task is in place. */
static struct notes *notes = MAP_FAILED;

bool placement_prepare(void)
{
    placed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return placed >= 0 && notes != MAP_FAILED;
}

void placement_done(void)
{
    const uint64_t one = 1;
    if (placed >= 0 && write(placed, &one, sizeof one) != sizeof one)
        return; /* The task gives up waiting and says so. */
}

bool placement_wait(int ms)
{
    struct pollfd source = {.fd = placed, .events = POLLIN};
    long long end = now_ms() + ms;
    if (placed < 0 || notes == MAP_FAILED)
        return false;
    for (long long left = ms; left >= 0; left = end - now_ms())
        if (poll(&source, 1, (int)left) > 0)
            return (source.revents & POLLIN) != 0;
    return false;
}

bool placement_note_cgroup(const char *directory)
{
    int i = 0;
    while (i < CGROUPS_MAX && notes->cgroup[i][0] != '\0' && strcmp(notes->cgroup[i], directory) != 0)
        i++;
    if (i == CGROUPS_MAX || strlen(directory) >= CGROUP_PATH_MAX)
        return false;
    strcpy(notes->cgroup[i], directory);
    return true;
}

void placement_clear(void)
{
    if (notes == MAP_FAILED)
        return;
    for (int i = 0; i < CGROUPS_MAX && notes->cgroup[i][0] != '\0'; i++)
        cgroup_remove(notes->cgroup[i], REMOVE_MS);
}
