#ifndef STINT_CGROUP_REMOVE_H
#define STINT_CGROUP_REMOVE_H

/* Removes the cgroup of processes that were just killed: they linger in it for milliseconds. Gives up after `ms`. */
void cgroup_remove(const char *directory, int ms);

#endif
