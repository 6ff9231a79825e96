/* stint-barrier: CRIU's action script. Exit status 0 only on the daemon's clear word (barrier_word.c). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "barrier_word.h"
#include "line.h"
#include "roles.h"

int barrier_main(void)
{
    const char *action = getenv("CRTOOLS_SCRIPT_ACTION");
    const char *wanted = getenv("STINT_BARRIER_ACTION");
    if (action == NULL || wanted == NULL || getenv("STINT_BARRIER") == NULL)
        return 1;
    if (strcmp(action, wanted) != 0)
        return 0;
    return barrier_word(action, line_connect) ? 0 : 1;
}
