#ifndef STINT_PRIVATE_VIEW_H
#define STINT_PRIVATE_VIEW_H

#include "opening.h"

/* In the new namespaces, as their PID 1: mounts, host name, loopback. What failed, with errno set; NULL when all is made. */
const char *private_view_make(const struct opening *opening);

#endif
