#ifndef STINT_SECCOMP_FILTER_H
#define STINT_SECCOMP_FILTER_H

#include <stdbool.h>

/*
 * Filters the system calls of this process and of all it starts, across exec. What CRIU cannot save and programs do without is
 * answered as by a kernel that lacks it: io_uring, MPTCP, the question for Landlock's version. What no kernel lacks is asked
 * about at `listener` (seccomp_notice.h): landlock_restrict_self, strict seccomp mode. The listener is -1 where the kernel gives
 * none; these calls then fail with ENOSYS, as they do after a restore. To be called as root: no_new_privs is not set, so that
 * setuid programs keep working.
 */
bool seccomp_filter_install(int *listener);

#endif
