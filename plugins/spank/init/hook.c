/*
 * stint-init hook VERB SOCKET JOB: what Prolog and Epilog tell the daemon. Said and left: no answer is waited for, so a
 * daemon that is dead or hangs costs a node nothing but HOOK_MS at the very most.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "line.h"
#include "roles.h"

#define HOOK_MS 1000

int hook_main(const char *verb, const char *socket_path, const char *job)
{
    char line[LINE_MAX_BYTES];
    if (strcmp(verb, "prolog") != 0 && strcmp(verb, "epilog") != 0)
        return 2;
    snprintf(line, sizeof line, "%s version=1", verb);
    int fd = line_add(line, sizeof line, "job", job) ? line_connect(socket_path, HOOK_MS) : -1;
    return fd >= 0 && line_send(fd, line) ? 0 : 1;
}
