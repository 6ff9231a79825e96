/* From a copy of slurmstepd to a small process of ours: each of these execs stint-init and returns only when that failed. */
#ifndef STINT_ROLE_EXEC_H
#define STINT_ROLE_EXEC_H

#include <stdbool.h>
#include <sys/types.h>

#include "opening.h"

void role_exec_guard(const struct opening *opening, pid_t pid1, int pid1_socket);
/* `listener`: of the payload's seccomp filter; -1 for none. */
void role_exec_pid1(const struct opening *opening, int guard_socket, int listener);
void role_exec_root(const struct opening *opening);

/* This task runs nothing and ends. */
_Noreturn void role_exec_nothing(void);

/* This task waits to be killed or released; with `hold` it asks Slurm itself to put the job back, held. Ends when it cannot. */
_Noreturn void role_exec_parked(const struct opening *opening, bool hold);

#endif
