#define _GNU_SOURCE
#include "cgroup_wait.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* The path of a step, such as /slurm/uid_1001/job_5/step_batch, up to and with the step's own component. */
static bool step_path(const char *path, char *step, size_t size)
{
    const char *at = strstr(path, "/step_");
    if (at == NULL)
        return false;
    size_t length = (size_t)(at - path) + strcspn(at + 1, "/\n") + 1;
    if (length >= size)
        return false;
    memcpy(step, path, length);
    step[length] = '\0';
    return true;
}

/* Whether this hierarchy has a directory for the step although this process is not in it yet. */
static bool still_to_come(const char *controllers, const char *path, const char *step)
{
    char directory[1024];
    struct stat status;
    if (strstr(path, "/step_") != NULL || *controllers == '\0' || strncmp(controllers, "name=", 5) == 0)
        return false;
    int length = snprintf(directory, sizeof directory, CGROUP_ROOT "/%s%s", controllers, step);
    return length > 0 && (size_t)length < sizeof directory && stat(directory, &status) == 0;
}

static bool placed(void)
{
    char line[1024], step[512] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return false;
    while (*step == '\0' && fgets(line, sizeof line, file) != NULL)
        (void)step_path(strrchr(line, ':') != NULL ? strrchr(line, ':') + 1 : "", step, sizeof step);
    bool complete = *step != '\0';
    rewind(file);
    while (complete && fgets(line, sizeof line, file) != NULL) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        complete = !still_to_come(controllers + 1, path, step);
    }
    fclose(file);
    return complete;
}

bool cgroup_wait(int milliseconds)
{
    for (int waited = 0; waited < milliseconds * 2; waited++) {
        if (placed())
            return true;
        usleep(500);
    }
    return false;
}
