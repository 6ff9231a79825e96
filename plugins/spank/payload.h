#ifndef STINT_PAYLOAD_H
#define STINT_PAYLOAD_H

#include <stdbool.h>
#include <sys/types.h>

#include "opening.h"

/*
 * In pid1: forks root and, below it, script. Returns true in script; pid1 and root exec stint-init. False when the
 * payload could not be started.
 */
bool payload_start(spank_t spank, const struct opening *opening, int guard_socket);

/* Become stint-init; these return only when that failed. */
void payload_exec_pid1(const struct opening *opening, int guard_socket);
void payload_exec_guard(const struct opening *opening, pid_t pid1, int pid1_socket);

#endif
