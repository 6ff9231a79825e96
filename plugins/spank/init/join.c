/* stint-init join CGROUP... -- PROGRAM ARGS...: runs a program inside these cgroups from its first instruction. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cgroup_join.h"
#include "roles.h"

int join_main(int argc, char **argv)
{
    int i = 0;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!cgroup_join(argv[i])) {
            perror(argv[i]);
            return 126;
        }
    if (i + 1 >= argc)
        return 2;
    execv(argv[i + 1], argv + i + 1);
    perror(argv[i + 1]);
    return 127;
}
