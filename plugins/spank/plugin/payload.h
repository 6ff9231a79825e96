#ifndef STINT_PAYLOAD_H
#define STINT_PAYLOAD_H

#include <stdbool.h>

#include "opening.h"

/*
 * In pid1: forks root and, below it, script. Returns true in script; pid1 and root exec stint-init. False when the
 * payload could not be started.
 */
bool payload_start(spank_t spank, const struct opening *opening, int guard_socket);

#endif
