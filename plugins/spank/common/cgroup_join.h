#ifndef STINT_CGROUP_JOIN_H
#define STINT_CGROUP_JOIN_H

#include <stdbool.h>

/* Moves the calling process into a cgroup, given as its directory; false with errno set. */
bool cgroup_join(const char *directory);

#endif
