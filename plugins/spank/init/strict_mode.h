/*
 * Strict seccomp mode for a thread that has a filter already. The kernel refuses it there (EINVAL), so the thread is given a
 * filter that does the same: read, write, exit and rt_sigreturn are allowed, any other call kills. Differences: the signal
 * that the parent of a killed process is told of is SIGSYS, not SIGKILL, and the time stamp counter stays readable.
 */
#ifndef STINT_STRICT_MODE_H
#define STINT_STRICT_MODE_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/types.h>

struct strict_mode {
    pid_t thread;
    unsigned long number; /* of the call it has made */
};

/* Begins to stop a thread that waits in `call`. False when it cannot be had: gone, traced by another, another architecture. */
bool strict_mode_stop(struct strict_mode *mode, pid_t thread, const struct seccomp_data *call);

/*
 * Puts the stopping thread into strict mode and lets it go on with 0 from its call; with EINVAL, and false, when that fails.
 * To be called once after strict_mode_stop() has returned true, when nothing else keeps the thread in its call.
 */
bool strict_mode_enter(struct strict_mode *mode);

#endif
