#ifndef STINT_SANDBOX_H
#define STINT_SANDBOX_H

#include <slurm/spank.h>
#include <stdbool.h>

/*
 * Opens the sandbox of this task with the daemon. Returns in the process that shall run the user's script: this one when
 * there is no sandbox, a child in the sandbox otherwise. Does not return elsewhere: guard, pid1 and root exec stint-init;
 * the task of a member step (member > 0) ends when there is no sandbox.
 */
void sandbox_enter(spank_t spank, int member, const char *options, int argc, char **argv);

/* Whether this process is script in its sandbox. */
bool sandbox_entered(void);

#endif
