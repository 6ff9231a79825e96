/*
 * root, PID 1000: the root of what is dumped. Adopts daemons of the job (the plugin made it a subreaper), which would
 * otherwise hang below PID 1 and be lost without a word; ends like the script does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

#include "internal.h"
#include "roles.h"

int root_main(void)
{
    int status;
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        if (number != SIGCHLD)
            (void)signal(number, SIG_IGN);
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        return 1;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == SCRIPT_PID)
            end_like(status);
        if (ended < 0 && errno == ECHILD)
            return 1;
    }
}
