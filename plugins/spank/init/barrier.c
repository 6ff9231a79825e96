/*
 * stint-barrier: CRIU's action script. Exit status 0 only on the daemon's clear word (barrier_word.c). Before anything else is done it
 * refuses a CRIU that would look up the user's paths as root (STINT_ACT_AS, criu_identity.c).
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "barrier_word.h"
#include "line.h"
#include "roles.h"

/* Whether CRIU, which has started this, has the user's file system identity: /proc/PID/status shows real, effective, saved and file system id. */
static bool acts_as_user(void)
{
    char path[32], line[128];
    unsigned wanted, uid = 0;
    const char *identity = getenv("STINT_ACT_AS");
    const char *ids = identity != NULL ? strchr(identity, ':') : NULL;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)getppid());
    FILE *status = ids != NULL && sscanf(ids, ":%u", &wanted) == 1 ? fopen(path, "re") : NULL;
    if (status == NULL)
        return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, status) != NULL)
        found = sscanf(line, "Uid: %*u %*u %*u %u", &uid) == 1;
    fclose(status);
    return found && uid == wanted;
}

int barrier_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
    const char *wanted = getenv("STINT_BARRIER_ACTION");
    if (action == NULL || wanted == NULL || getenv("STINT_BARRIER") == NULL)
        return 1;
    if (strncmp(action, "pre-", 4) == 0 && !acts_as_user()) {
        fputs("stint-barrier: CRIU does not act as the job's user: criu-shim.so is not in force\n", stderr);
        return 1;
    }
    if (strcmp(action, wanted) != 0)
        return 0;
    return barrier_word(action, line_connect) ? 0 : 1;
}
