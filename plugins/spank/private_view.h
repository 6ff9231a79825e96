#ifndef STINT_PRIVATE_VIEW_H
#define STINT_PRIVATE_VIEW_H

#include <stdbool.h>

#include "opening.h"

/* In the new namespaces, as their PID 1: mounts, host name, loopback. */
bool private_view_make(const struct opening *opening);

#endif
