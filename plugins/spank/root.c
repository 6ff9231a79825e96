/*
 * root, PID 1000: the root of what is dumped. Adopts daemons of the job, which would otherwise hang below PID 1 and be
 * lost without a word; ends like the script does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "internal.h"
#include "roles.h"

int root_main(void)
{
    int status;
    for (int number = 1; number < NSIG; number++)
        if (number != SIGCHLD)
            signal(number, SIG_IGN);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return 1;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == SCRIPT_PID)
            end_like(status);
        if (ended < 0 && errno == ECHILD)
            return 1;
    }
}
