#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "roles.h"

_Noreturn void end_like(int wait_status)
{
    if (WIFSIGNALED(wait_status)) {
        int number = WTERMSIG(wait_status);
        sigset_t set;
        (void)prctl(PR_SET_DUMPABLE, 0);
        signal(number, SIG_DFL);
        sigemptyset(&set);
        sigaddset(&set, number);
        (void)kill(getpid(), number);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
        _exit(128 + number);
    }
    _exit(WEXITSTATUS(wait_status));
}
